//! What a job uses up, and what of it stays.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_shared::sandbox::Limits;

use super::{World, beats, begin, confinements, run};

fn limited(world: &World, confinement: &str, attack: &[&str], limits: Limits) -> Value {
    let command: Vec<&str> = ["attack"].iter().chain(attack).copied().collect();
    let job = tollgate_shared::sandbox::Job { limits, ..world.job(&command) };
    run(confinement, &job, 0)
}

const LIMITS: Limits = Limits {
    wall_ms: 60_000,
    cpu_s: 60,
    memory_bytes: 1 << 30,
    file_bytes: 64 << 20,
    disk_bytes: 256 << 20,
    processes: 100,
    output_bytes: 1 << 20,
};

#[test]
fn time_is_limited_whatever_the_job_ignores() {
    for confinement in confinements() {
        let world = World::new();
        let heartbeat = world.path("scratch/heartbeat");
        let limits = Limits { wall_ms: 1500, ..LIMITS };
        let answer = limited(&world, confinement, &["stubborn", heartbeat.to_str().unwrap()], limits);
        assert_eq!(answer["ended"], "timed_out", "{confinement}: {answer}");
        assert!(heartbeat.exists() && !beats(&heartbeat), "it went on in {confinement}");
    }
}

#[test]
fn daemons_do_not_stay() {
    for confinement in confinements() {
        let world = World::new();
        let heartbeat = world.path("scratch/heartbeat");
        let answer = limited(&world, confinement, &["daemon", heartbeat.to_str().unwrap()], LIMITS);
        assert_eq!(answer["ended"], json!({ "exited": 0 }), "{confinement}: {answer}");
        assert!(heartbeat.exists() && !beats(&heartbeat), "the daemon stayed in {confinement}");
    }
}

#[test]
fn job_ends_when_it_is_cancelled_and_when_its_server_is_killed() {
    for confinement in confinements() {
        let world = World::new();
        let heartbeat = world.path("scratch/heartbeat");
        let job = world.job(&["attack", "stubborn", heartbeat.to_str().unwrap()]);
        let answer = run(confinement, &job, 700);
        assert_eq!(answer["ended"], "cancelled", "{confinement}: {answer}");
        assert!(!beats(&heartbeat), "it went on after it was cancelled in {confinement}");

        let _ = fs::remove_file(&heartbeat);
        let mut server = begin(confinement, &job, 0);
        let begun = Instant::now();
        while !heartbeat.exists() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill().unwrap();
        server.wait().unwrap();
        let begun = Instant::now();
        while beats(&heartbeat) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it outlived its server in {confinement}");
        }
    }
}

#[test]
fn processes_are_limited() {
    for confinement in confinements() {
        let world = World::new();
        let answer = limited(&world, confinement, &["fork-bomb"], Limits { wall_ms: 8000, ..LIMITS });
        assert!(answer["ended"] == "process_limit" || answer["ended"] == "timed_out", "{confinement}: {answer}");
        let answer = limited(&world, confinement, &["threads"], LIMITS);
        let said = answer["stdout"].as_str().unwrap();
        assert!(answer["ended"] == "process_limit" || said.starts_with("refused"), "{confinement}: {answer}");
    }
}

#[test]
fn memory_is_limited_for_each_and_for_all() {
    for confinement in confinements() {
        let world = World::new();
        let alone = limited(&world, confinement, &["memory"], LIMITS);
        assert!(alone["ended"] == "memory_limit" || alone["ended"]["signalled"].is_number(), "{confinement}: {alone}");
        let together = limited(&world, confinement, &["memory-together"], LIMITS);
        assert_eq!(together["ended"], "memory_limit", "{confinement}: {together}");
    }
}

#[test]
fn disk_is_limited() {
    for confinement in confinements() {
        let world = World::new();
        let file = world.text("scratch/large");
        for attack in ["big-file", "sparse-file"] {
            let answer = limited(&world, confinement, &[attack, &file], LIMITS);
            let said = answer["stdout"].as_str().unwrap();
            assert!(
                answer["ended"]["signalled"].is_number() || said.starts_with("refused"),
                "{attack} in {confinement}: {answer}"
            );
            assert!(fs::metadata(&file).map_or(0, |metadata| metadata.len()) <= LIMITS.file_bytes);
        }
        let answer = limited(&world, confinement, &["many-files", &world.text("scratch")], LIMITS);
        assert_eq!(answer["ended"], "disk_limit", "{confinement}: {answer}");
    }
}

#[test]
fn output_is_limited() {
    for confinement in confinements() {
        let world = World::new();
        let answer = limited(&world, confinement, &["print", "1000000"], LIMITS);
        assert_eq!(answer["ended"], json!({ "exited": 0 }), "{confinement}");
        assert!(answer["stdout"].as_str().unwrap().len() > 1_000_000);
        let answer = limited(&world, confinement, &["print", "100000000000"], LIMITS);
        assert_eq!(answer["ended"], "output_limit", "{confinement}");
        assert!(answer["stdout"].as_str().unwrap().len() <= LIMITS.output_bytes);
    }
}
