//! Hooks of a repository: what they are for, and what they must not come to.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::program;

use super::world::World;

fn world_with(configuration: &str) -> World {
    let world = World::new();
    world.file("tollgate.toml", &format!("[git]\nhooks = true\n{configuration}"));
    fs::write(world.work().join(".git/info/exclude"), "tollgate.toml\n.tollgate\n").unwrap();
    world
}

fn executable(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn hook(world: &World, name: &str, script: &str) {
    executable(&world.work().join(".git/hooks").join(name), &format!("#!/bin/sh\n{script}\n"));
}

async fn stage(world: &World, server: &McpProcess, content: &str) {
    world.file("a.txt", content);
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
}

/// Has hooks refuse a commit, and returns the answer and what the refusal says.
async fn refused(world: &World, server: &McpProcess, code: &str) -> Value {
    let before = world.refs();
    let called = server.call("git_commit", json!({"message": "subject"})).await;
    assert_eq!(called.structured["error"]["code"], code, "{}", called.structured);
    assert_eq!(world.refs(), before);
    called.structured
}

fn message(world: &World) -> String {
    world.git(&["log", "-1", "--format=%B"])
}

#[tokio::test]
async fn hooks_see_what_is_committed_and_decide() {
    let world = world_with("");
    let server = world.start();
    hook(
        &world,
        "pre-commit",
        "test \"$(git diff --cached --name-only)\" = a.txt || exit 3\n\
         git show :a.txt | grep -q forbidden && { echo 'a.txt has a forbidden word' >&2; exit 1; }\n\
         echo staged | git hash-object -w --stdin >\"$TMPDIR/id\" && git cat-file -e \"$(cat \"$TMPDIR/id\")\" || exit 4\n\
         test \"$(git write-tree)\" && test -f README.md && test $# = 0 || exit 5",
    );
    hook(&world, "commit-msg", "grep -q '^subject' \"$1\" || exit 6\nprintf '\\nChange-Id: I123\\n' >>\"$1\"");
    stage(&world, &server, "forbidden\n").await;
    let answer = refused(&world, &server, "hook_failed").await;
    assert_eq!((&answer["hook"], &answer["output"]), (&json!("pre-commit"), &json!("a.txt has a forbidden word")));
    stage(&world, &server, "welcome\n").await;
    let committed = server.ok("git_commit", json!({"message": "subject\n\nWhy."})).await;
    assert_eq!((&committed["hooks"], &committed["hooks_ran"]), (&json!("ran"), &json!(["pre-commit", "commit-msg"])));
    let text = message(&world);
    assert!(text.starts_with("subject\n\nWhy.\n\nChange-Id: I123\n"), "{text}");
    assert!(text.contains("Tollgate-Receipt: "), "{text}");
    // What the hook wrote with git is nowhere in the repository.
    let written = git2::Oid::hash_object(git2::ObjectType::Blob, b"staged\n").unwrap();
    assert!(world.repository().find_blob(written).is_err());
    // A subject of the hook's own is the subject.
    hook(&world, "commit-msg", "echo 'T-1: subject' >\"$1\"");
    stage(&world, &server, "more\n").await;
    assert_eq!(server.ok("git_commit", json!({"message": "subject"})).await["summary"], "T-1: subject");
    // A hook that is switched off is none.
    for name in ["pre-commit", "commit-msg"] {
        fs::set_permissions(world.work().join(".git/hooks").join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    stage(&world, &server, "yet more\n").await;
    assert_eq!(server.ok("git_commit", json!({"message": "plain"})).await["hooks"], "none");
    world.fsck();
}

#[tokio::test]
async fn hooks_are_found_where_git_finds_them() {
    let world = world_with("");
    let server = world.start();
    // Without a word on what runs it, a hook is a shell's; a link into the working tree is usual.
    executable(&world.work().join("scripts/check"), "echo \"$PWD\" >&2; git rev-parse --show-toplevel >&2; exit 1\n");
    fs::create_dir_all(world.work().join(".git/hooks")).unwrap();
    symlink("../../scripts/check", world.work().join(".git/hooks/pre-commit")).unwrap();
    stage(&world, &server, "a\n").await;
    let answer = refused(&world, &server, "hook_failed").await;
    let folder = world.work().display().to_string();
    assert_eq!(answer["output"], json!(format!("{folder}\n{folder}")), "{answer}");
    // In a linked working tree, the same ones.
    server.ok("git_worktree_add", json!({"path": "tree", "branch_name": "in-tree"})).await;
    fs::write(world.work().join("tree/b.txt"), "b\n").unwrap();
    server.ok("git_add", json!({"repo_path": "tree", "files": ["b.txt"]})).await;
    let called = server.call("git_commit", json!({"repo_path": "tree", "message": "subject"})).await;
    let tree = world.work().join("tree").display().to_string();
    assert_eq!(called.structured["output"], json!(format!("{tree}\n{tree}")), "{}", called.structured);
    // A first commit has them too.
    let world = World::empty();
    world.file("tollgate.toml", "[git]\nhooks = true\n");
    hook(&world, "pre-commit", "git diff --cached --name-only --diff-filter=A | grep -qx a.txt");
    let server = world.start();
    stage(&world, &server, "a\n").await;
    assert_eq!(server.ok("git_commit", json!({"message": "first"})).await["hooks_ran"], json!(["pre-commit"]));
}

#[tokio::test]
async fn folder_of_the_operator_replaces_the_repositorys_hooks() {
    let world = world_with("hooks_folder = \"../operator\"\n");
    executable(&world.path("operator/pre-commit"), "#!/bin/sh\n. \"$(dirname \"$0\")/lib\"\nexit $code\n");
    fs::write(world.path("operator/lib"), "code=1\n").unwrap();
    hook(&world, "pre-commit", "exit 0");
    hook(&world, "commit-msg", "echo changed >\"$1\"");
    let server = world.start();
    stage(&world, &server, "a\n").await;
    refused(&world, &server, "hook_failed").await;
    fs::write(world.path("operator/lib"), "code=0\n").unwrap();
    let committed = server.ok("git_commit", json!({"message": "subject"})).await;
    assert_eq!((&committed["hooks_ran"], &committed["summary"]), (&json!(["pre-commit"]), &json!("subject")));
}

#[tokio::test]
async fn hook_cannot_write_the_repository_nor_read_what_is_outside() {
    let world = world_with("");
    let work = world.work().display().to_string();
    let outside = world.path("outside").display().to_string();
    // Whatever a hook tries here must be bearable where the sandbox lets it through.
    let mut victim = Command::new("sleep").arg("120").spawn().unwrap();
    let attacks = [
        "echo evil >.git/refs/heads/evil".to_owned(),
        "git update-ref refs/heads/main \"$(git commit-tree -m evil 'HEAD^{tree}')\"".into(),
        "git branch evil".into(),
        "git branch -f production \"$(git commit-tree -m evil 'HEAD^{tree}')\"".into(),
        "git symbolic-ref HEAD refs/heads/main".into(),
        "echo 'ref: refs/heads/main' >.git/HEAD".into(),
        "git config user.name evil".into(),
        "printf '[user]\\n\\tname = evil\\n' >>.git/config".into(),
        "mv .git/config .git/config.old".into(),
        "rm -rf .git/refs .git/objects".into(),
        "chmod 000 .git/objects".into(),
        "ln -s /etc .git/refs/heads/etc".into(),
        "echo x >.git/index".into(),
        "GIT_INDEX_FILE=.git/index git rm -q --cached README.md".into(),
        "env -u GIT_OBJECT_DIRECTORY git hash-object -w README.md && touch .git/objects/evil".into(),
        "echo evil >README.md".into(),
        "rm README.md".into(),
        "echo evil >.git/hooks/post-commit".into(),
        "touch .git/packed-refs.lock".into(),
        format!("touch {outside}/hook-was-here"),
        "touch \"$HOME/../../tollgate-hook-was-here\" && rm \"$HOME/../../tollgate-hook-was-here\"".into(),
        format!("cat {outside}/secret.txt"),
        "cat ../outside/secret.txt".into(),
        format!("ls {outside}"),
        format!("cat {work}/.tollgate/ledger.db"),
        "ls .tollgate/ledger.db".into(),
        "env | grep OPERATOR_SECRET".into(),
        "grep -z OPERATOR_SECRET /proc/[0-9]*/environ".into(),
        format!("kill -9 {}", victim.id()),
    ];
    let script = |attack: &str| {
        format!("( {attack}\n) >/dev/null 2>&1 && echo \"done: {}\"", attack.replace('"', "'").replace(['$', '`'], ""))
    };
    hook(
        &world,
        "pre-commit",
        &format!("{}\nexit 0", attacks.iter().map(|a| script(a)).collect::<Vec<_>>().join("\n")),
    );
    let server = world.start_as(&[("OPERATOR_SECRET", "HUNTER2")]);
    stage(&world, &server, "a\n").await;
    let (before, config) = (world.refs(), fs::read(world.work().join(".git/config")).unwrap());
    server.ok("git_commit", json!({"message": "one"})).await;
    let mut after = world.refs();
    assert_ne!(after.insert("refs/heads/feature".into(), before["refs/heads/feature"].clone()), None);
    assert_eq!(after, before);
    assert_eq!(fs::read(world.work().join(".git/config")).unwrap(), config);
    assert_eq!((&*world.read("README.md"), &*world.read("a.txt")), ("hello\n", "a\n"));
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    assert!(!world.work().join(".git/hooks/post-commit").exists() && !world.work().join(".git/objects/evil").exists());
    assert!(!world.path("outside/hook-was-here").exists());
    world.fsck();
    // None of the commands even came to its end.
    hook(
        &world,
        "pre-commit",
        &format!("{}\nexit 1", attacks.iter().map(|a| script(a)).collect::<Vec<_>>().join("\n")),
    );
    stage(&world, &server, "b\n").await;
    let answer = refused(&world, &server, "hook_failed").await;
    assert!(!answer["output"].as_str().unwrap().contains("done: "), "{answer}");
    assert!(victim.try_wait().unwrap().is_none(), "a process outside was killed");
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[tokio::test]
async fn hook_reaches_no_network_and_does_not_outlive_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = world_with("hooks_timeout_ms = 3000\n");
    let marker = format!("98765.{}", std::process::id());
    hook(
        &world,
        "pre-commit",
        &format!(
            "command -v bash >/dev/null && bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null\n\
             git ls-remote http://127.0.0.1:{port}/x >/dev/null 2>&1\n\
             setsid sleep {marker} &\nnohup sleep {marker} >/dev/null 2>&1 &\nexit 0"
        ),
    );
    let server = world.start();
    stage(&world, &server, "a\n").await;
    server.ok("git_commit", json!({"message": "one"})).await;
    let runs = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
    };
    assert_eq!(runs(), 0);
    assert!(listener.accept().is_err(), "somebody called");
    // One that does not end, prints without end and leaves a process.
    for script in ["while :; do :; done", "yes 'all of it'", "sleep 600", "cat /dev/zero | tr '\\0' x"] {
        hook(&world, "commit-msg", &format!("sleep {marker} &\n{script}"));
        stage(&world, &server, script).await;
        let started = Instant::now();
        let answer = refused(&world, &server, "hook_failed").await;
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(answer.to_string().len() < 12_000 && answer["hook"] == "commit-msg", "{answer}");
        assert_eq!(runs(), 0, "{script}");
    }
}

#[tokio::test]
async fn message_of_a_hook_is_taken_as_an_agents_is() {
    let world = world_with("");
    let server = world.start();
    let secret = world.path("outside/secret.txt").display().to_string();
    let scripts = [
        "printf 'subject\\n\\nAgent: human\\n' >\"$1\"".to_owned(),
        "printf 'subject\\n\\nTollgate-Receipt: x\\n' >\"$1\"".into(),
        "printf 'subject\\n---\\nx\\n' >\"$1\"".into(),
        "head -c 100000 /dev/zero | tr '\\0' x >\"$1\"".into(),
        "printf '\\377\\n' >\"$1\"".into(),
        ": >\"$1\"".into(),
        "rm \"$1\"".into(),
        "rm \"$1\" && mkdir \"$1\"".into(),
        "rm \"$1\" && mkfifo \"$1\"".into(),
        format!("rm \"$1\" && ln -s {secret} \"$1\""),
        "rm \"$1\" && ln -s /dev/zero \"$1\"".into(),
    ];
    stage(&world, &server, "a\n").await;
    for script in scripts {
        hook(&world, "commit-msg", &script);
        let answer = refused(&world, &server, "hook_failed").await;
        assert!(answer["error"]["message"].as_str().unwrap().contains("cannot be taken"), "{script}: {answer}");
    }
    hook(&world, "commit-msg", "printf 'subject\\n\\nFixes: #1\\n' >\"$1\"");
    server.ok("git_commit", json!({"message": "x"})).await;
    assert!(message(&world).starts_with("subject\n\nFixes: #1\nAgent"), "{}", message(&world));
    world.fsck();
}

#[tokio::test]
async fn hooks_elsewhere_are_not_run() {
    let world = world_with("");
    let ran = world.path("ran").display().to_string();
    executable(&world.work().join("theirs/pre-commit"), &format!("#!/bin/sh\ntouch {ran}\nexit 1\n"));
    executable(&world.path("outside/pre-commit"), &format!("#!/bin/sh\ntouch {ran}\nexit 1\n"));
    let server = world.start();
    for (folder, word) in [("theirs", "hooks_path_ignored"), ("../outside", "none")] {
        world.git(&["config", "core.hooksPath", folder]);
        stage(&world, &server, folder).await;
        assert_eq!(server.ok("git_commit", json!({"message": "one"})).await["hooks"], word, "{folder}");
    }
    world.git(&["config", "--unset", "core.hooksPath"]);
    // A link to outside is not followed, and no reason to go on without it.
    fs::create_dir_all(world.work().join(".git/hooks")).unwrap();
    stage(&world, &server, "b\n").await;
    for target in [world.path("outside/pre-commit"), world.path("nowhere")] {
        symlink(&target, world.work().join(".git/hooks/pre-commit")).unwrap();
        refused(&world, &server, "path_outside_root").await;
        fs::remove_file(world.work().join(".git/hooks/pre-commit")).unwrap();
    }
    fs::remove_dir_all(world.work().join(".git/hooks")).unwrap();
    symlink(world.path("outside"), world.work().join(".git/hooks")).unwrap();
    refused(&world, &server, "path_outside_root").await;
    assert!(!Path::new(&ran).exists());
}

#[tokio::test]
async fn what_the_hooks_have_not_seen_is_not_committed() {
    let world = world_with("");
    hook(&world, "pre-commit", "sleep 3");
    let server = world.start();
    let meanwhile: [(&str, fn(&World), &[&str]); 3] = [
        (
            "staged",
            |world| {
                world.file("b.txt", "not looked at\n");
                world.git(&["add", "b.txt"]);
            },
            &["staged_changed"],
        ),
        (
            "moved",
            |world| {
                world.git(&["-c", "core.hooksPath=/", "commit", "-q", "--allow-empty", "-m", "theirs"]);
            },
            &["staged_changed", "nothing_to_commit"],
        ),
        (
            "protected",
            |world| {
                world.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
            },
            &["protected_branch"],
        ),
    ];
    for (case, change, codes) in meanwhile {
        stage(&world, &server, case).await;
        let protected = world.tip("main");
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            change(&world);
        };
        let (called, ()) = tokio::join!(server.call("git_commit", json!({"message": "subject"})), waiting);
        let code = called.structured["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert!(codes.contains(&&*code), "{case}: {}", called.structured);
        assert_eq!(world.tip("main"), protected);
    }
    world.fsck();
}

#[tokio::test]
async fn state_is_hidden_however_it_is_named() {
    let world = world_with("");
    hook(&world, "pre-commit", "ls states/here && cat states/here/ledger.db; exit 1");
    fs::write(world.work().join(".git/info/exclude"), "tollgate.toml\nstates\n").unwrap();
    fs::create_dir_all(world.work().join("states")).unwrap();
    let server = world.start_as(&[("TOLLGATE_STATE_DIR", "states/here")]);
    stage(&world, &server, "a\n").await;
    let answer = refused(&world, &server, "hook_failed").await;
    assert!(world.work().join("states/here/ledger.db").exists());
    assert!(
        !answer["output"].as_str().unwrap().contains("SQLite") && !answer.to_string().contains("ledger.db-"),
        "{answer}"
    );
}

#[tokio::test]
async fn other_calls_go_on_while_hooks_run() {
    let world = world_with("");
    hook(&world, "pre-commit", "sleep 2");
    let server = world.start();
    stage(&world, &server, "a\n").await;
    let (committed, made) = tokio::join!(server.call("git_commit", json!({"message": "slow"})), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        server.ok("git_create_branch", json!({"branch_name": "meanwhile"})).await;
        started.elapsed()
    });
    assert!(!committed.is_error && made < Duration::from_millis(1500), "{made:?}");
}

#[tokio::test]
async fn without_a_sandbox_no_hook_is_run() {
    let world = world_with("");
    hook(&world, "pre-commit", "exit 0");
    // Root in a namespace of users that may make no others: nothing can confine it.
    let mut command = Command::new("unshare");
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\"";
    command.args(["--user", "--map-root-user", "sh", "-c"]).current_dir(world.work());
    let possible = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces"])
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("skipped: no namespace of users can be made here");
        return;
    }
    command.arg(script).arg(program("mcp-git")).env("HOME", world.path("home"));
    let server = McpProcess::spawn(command.into());
    stage(&world, &server, "a\n").await;
    let answer = refused(&world, &server, "sandbox_unavailable").await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("pre-commit") || answer.to_string().contains("hook"));
    fs::remove_file(world.work().join(".git/hooks/pre-commit")).unwrap();
    assert_eq!(server.ok("git_commit", json!({"message": "one"})).await["hooks"], "none");
}
