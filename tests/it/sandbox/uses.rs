//! What a job does all day and must be able to do.

use serde_json::json;

use super::{World, confinements, run};

fn said(world: &World, confinement: &str, command: &[&str]) -> String {
    let answer = run(confinement, &world.job(command), 0);
    assert_eq!(answer["ended"], json!({ "exited": 0 }), "{command:?} in {confinement}: {answer}");
    answer["stdout"].as_str().unwrap().to_owned()
}

#[test]
fn job_reads_its_workspace_and_writes_its_scratch_folder() {
    for confinement in confinements() {
        let world = World::new();
        assert_eq!(said(&world, confinement, &["/bin/cat", "src/code.py"]), "print('code')\n");
        assert_eq!(said(&world, confinement, &["/bin/cat", "nested/other"]), "OTHER");
        let script = "mkdir -p $TMPDIR/a/b && echo x > $TMPDIR/a/b/c && mv $TMPDIR/a/b/c $TMPDIR/d && ln -s d $TMPDIR/e \
                      && cat $TMPDIR/e && cat /dev/null && head -c 1 /dev/urandom | wc -c";
        assert_eq!(said(&world, confinement, &["/bin/sh", "-c", script]), "x\n1\n");
    }
}

#[test]
fn exit_code_signal_and_both_outputs_are_told_apart() {
    for confinement in confinements() {
        let world = World::new();
        let answer = run(confinement, &world.job(&["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]), 0);
        assert_eq!(answer, json!({"ended": {"exited": 7}, "stdout": "out\n", "stderr": "err\n"}), "{confinement}");
        let answer = run(confinement, &world.job(&["/bin/sh", "-c", "kill -9 $$"]), 0);
        assert_eq!(answer["ended"], json!({ "signalled": 9 }), "{confinement}: {answer}");
        let answer = run(confinement, &world.job(&["/bin/sh", "-c", "exit 137"]), 0);
        assert_eq!(answer["ended"], json!({ "exited": 137 }), "{confinement}: {answer}");
        let answer = run(confinement, &world.job(&["/nonexistent/program"]), 0);
        assert!(answer["error"].as_str().unwrap().contains("/nonexistent/program"), "{confinement}: {answer}");
    }
}

#[test]
fn job_talks_to_itself_where_it_has_a_network_of_its_own() {
    for confinement in confinements().into_iter().filter(|confinement| *confinement != "landlock") {
        let world = World::new();
        assert_eq!(said(&world, confinement, &["attack", "loopback"]), "escaped: talked to itself\n", "{confinement}");
    }
}

#[test]
fn children_and_pipes_work() {
    for confinement in confinements() {
        let world = World::new();
        let script = "for i in 1 2 3 4 5 6 7 8; do (sleep 0.1; echo $i) & done | sort | tr -d '\\n'; wait";
        assert_eq!(said(&world, confinement, &["/bin/sh", "-c", script]), "12345678", "{confinement}");
    }
}
