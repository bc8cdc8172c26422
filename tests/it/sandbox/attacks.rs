//! What a job tries to reach and must not.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};

use super::{World, confinements, run};

/// Tries `attack` in every confinement and fails when it was a way out.
fn refused(world: &World, attack: &[&str]) {
    let command: Vec<&str> = ["attack"].iter().chain(attack).copied().collect();
    for confinement in confinements() {
        let answer = run(confinement, &world.job(&command), 0);
        let said = answer["stdout"].as_str().unwrap_or_default();
        assert!(said.starts_with("refused: "), "{attack:?} in {confinement}: {answer}");
    }
}

#[test]
fn network_is_out_of_reach() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&world, &["tcp", &listener.local_addr().unwrap().to_string()]);
    refused(&world, &["tcp", "192.0.2.1:80"]);
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((count, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..count], from);
        }
    });
    refused(&world, &["udp", &address]);
    refused(&world, &["dns", "example.com"]);
}

#[test]
fn sockets_of_the_host_are_out_of_reach() {
    let world = World::new();
    let outside = world.path("outside/socket");
    let _outside = UnixListener::bind(&outside).unwrap();
    refused(&world, &["unix", outside.to_str().unwrap()]);
    // Also one that lies where the job may read and write.
    let scratch = world.path("scratch/socket");
    let _scratch = UnixListener::bind(&scratch).unwrap();
    refused(&world, &["unix", scratch.to_str().unwrap()]);
    let name = format!("tollgate-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    refused(&world, &["abstract", &name]);
}

#[test]
fn files_that_were_not_given_cannot_be_read() {
    let world = World::new();
    refused(&world, &["read", &world.text("outside/.ssh/id")]);
    refused(&world, &["list", &world.text("outside/.ssh")]);
    refused(&world, &["read", &format!("{}/../outside/victim", world.text("workspace"))]);
    refused(&world, &["read", &world.text("workspace/.tollgate/ledger.db")]);
    refused(&world, &["read", &world.text("workspace/nested/state/key")]);
    if let Some(home) = std::env::var_os("HOME") {
        refused(&world, &["list", home.to_str().unwrap()]);
        refused(&world, &["list", &format!("{}/.ssh", home.to_str().unwrap())]);
    }
    refused(&world, &["read", "/etc/shadow"]);
    refused(&world, &["list", "/root"]);
    refused(&world, &["list", "/run"]);
}

#[test]
fn links_lead_nowhere_new() {
    let world = World::new();
    // Laid by an agent before the job begins, at the top and where a folder is given entry by entry.
    symlink(world.path("outside"), world.path("workspace/shortcut")).unwrap();
    symlink(world.path("outside"), world.path("workspace/nested/shortcut")).unwrap();
    symlink(world.path("workspace/.tollgate"), world.path("workspace/src/state")).unwrap();
    refused(&world, &["read", &world.text("workspace/shortcut/victim")]);
    refused(&world, &["read", &world.text("workspace/nested/shortcut/victim")]);
    refused(&world, &["read", &world.text("workspace/src/state/ledger.db")]);
    for (number, confinement) in confinements().into_iter().enumerate() {
        // Laid by the job itself, where it may write.
        let (one, two) = (world.text(&format!("scratch/a{number}")), world.text(&format!("scratch/b{number}")));
        for attack in [
            ["attack", "through-link", &world.text("outside/victim"), &one],
            ["attack", "write-through-link", &world.text("outside/victim"), &two],
        ] {
            let answer = run(confinement, &world.job(&attack), 0);
            assert!(answer["stdout"].as_str().unwrap().starts_with("refused"), "{attack:?} {confinement}: {answer}");
        }
    }
    assert_eq!(fs::read_to_string(world.path("outside/victim")).unwrap(), "VICTIM");
}

#[test]
fn nothing_outside_is_changed() {
    let world = World::new();
    let victim = world.text("outside/victim");
    let code = world.text("workspace/src/code.py");
    let scratch = world.text("scratch/moved");
    let before = fs::metadata(&code).unwrap();
    for target in [&victim, &code] {
        refused(&world, &["write", target]);
        refused(&world, &["append", target]);
        refused(&world, &["truncate", target]);
        refused(&world, &["chmod", target]);
        refused(&world, &["delete", target]);
        refused(&world, &["rename", target, &scratch]);
        refused(&world, &["hardlink", target, &scratch]);
    }
    refused(&world, &["write", &world.text("workspace/new")]);
    refused(&world, &["write", &world.text("outside/new")]);
    refused(&world, &["write", "/tmp/tollgate-escaped"]);
    refused(&world, &["write", "/dev/shm/../../tmp/tollgate-escaped"]);
    refused(&world, &["write", "/proc/sys/kernel/core_pattern"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "VICTIM");
    assert_eq!(fs::read_to_string(&code).unwrap(), "print('code')\n");
    assert_eq!(fs::metadata(&code).unwrap().mode(), before.mode());
}

#[test]
fn processes_outside_are_out_of_reach() {
    let world = World::new();
    let mut victim = Command::new("sleep").arg("600").env("VICTIMS_SECRET", "x").stdin(Stdio::null()).spawn().unwrap();
    let pid = victim.id().to_string();
    refused(&world, &["signal", &pid]);
    refused(&world, &["environment-of", &pid]);
    refused(&world, &["environment-of", &std::process::id().to_string()]);
    refused(&world, &["list", &format!("/proc/{pid}/fd")]);
    refused(&world, &["read", &format!("/proc/{pid}/root/etc/passwd")]);
    assert!(victim.try_wait().unwrap().is_none(), "the victim was killed");
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn rights_cannot_be_won_back() {
    let world = World::new();
    refused(&world, &["mount"]);
    refused(&world, &["namespace"]);
}

#[test]
fn environment_of_the_server_is_not_passed_on() {
    let world = World::new();
    for confinement in confinements() {
        for attack in ["environment", "environment-of"] {
            let command = if attack == "environment" { vec!["attack", attack] } else { vec!["attack", attack, "1"] };
            let answer = run(confinement, &world.job(&command), 0);
            assert!(!answer.to_string().contains("HUNTER2"), "{attack} in {confinement}: {answer}");
        }
    }
}

#[test]
fn a_file_that_is_fixed_stays_what_it_is_in_a_folder_that_is_written() {
    for confinement in confinements() {
        let world = World::new();
        fs::write(world.path("scratch/link"), "as it was\n").unwrap();
        let script = "cat link; echo x >link; rm -f link; mv link other; echo y >new; mv -f new link; ln -sf /etc link; \
                      chmod 777 link; mkdir -p sub; mv link sub/; cat link; echo fine >beside; cat beside";
        let mut job = world.job(&["/bin/sh", "-c", script]);
        job.folder = world.path("scratch");
        job.fixed = vec![world.path("scratch/link")];
        let answer = run(confinement, &job, 0);
        if confinement == "landlock" {
            assert!(answer["error"].as_str().is_some_and(|error| error.contains("landlock alone")), "{answer}");
            continue;
        }
        assert_eq!(answer["stdout"], "as it was\nas it was\nfine\n", "{confinement}: {answer}");
        assert_eq!(fs::read_to_string(world.path("scratch/link")).unwrap(), "as it was\n", "{confinement}");
    }
}
