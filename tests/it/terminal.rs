//! A terminal with a person before it.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal, from the side of the person.
pub struct Terminal {
    person: File,
    name: String,
}

impl Terminal {
    pub fn open() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        Self { person: person.into(), name }
    }

    /// The side of the program.
    pub fn side(&self) -> File {
        File::options().read(true).write(true).open(&self.name).unwrap()
    }

    pub fn type_line(&self, line: &str) {
        writeln!(&self.person, "{line}").unwrap();
    }

    /// The same, so many characters wide and high.
    pub fn sized(columns: u16, rows: u16) -> Self {
        let terminal = Self::open();
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal.side(), size).unwrap();
        terminal
    }

    pub fn press(&self, keys: &str) {
        write!(&self.person, "{keys}").unwrap();
    }

    /// The same, as soon as `text` is among it.
    pub fn shown_until(&self, text: &str) -> String {
        let begun = Instant::now();
        let mut shown = String::new();
        while !shown.contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(60), "`{text}` is not shown: {shown}");
            std::thread::sleep(Duration::from_millis(10));
            shown.push_str(&self.shown());
        }
        shown
    }

    /// What the program wrote and the terminal echoed since the last time; all of it once the program has ended.
    pub fn shown(&self) -> String {
        rustix::io::ioctl_fionbio(&self.person, true).unwrap();
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        // Ends with an error: nothing more is there, or nobody is on the other side.
        while let Ok(count @ 1..) = (&self.person).read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }
}
