//! A thread with a stack as deep as the server's, that checks one text after the other.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::Mutex;
use std::thread;

use super::agreement::Copy;

/// Deeper than the server's, since an instrumented build uses more.
const STACK_BYTES: usize = 256 * 1024 * 1024;

type Judge = Mutex<(Sender<String>, Receiver<()>)>;

/// Checks `text` and waits until that is done.
pub fn check(text: &str) {
    static JUDGE: OnceLock<Judge> = OnceLock::new();
    let judge = JUDGE.get_or_init(|| {
        let (texts, next) = channel::<String>();
        let (done, answers) = channel();
        let work = move || {
            let copy = Copy::new();
            for text in next {
                copy.check(&text);
                done.send(()).expect("somebody waits");
            }
        };
        thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
        Mutex::new((texts, answers))
    });
    let judge = judge.lock().expect("one at a time");
    judge.0.send(text.to_owned()).expect("the judge is there");
    judge.1.recv().expect("the judge has not panicked");
}
