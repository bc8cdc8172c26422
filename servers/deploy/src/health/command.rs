//! A check by a command, which runs what an agent wrote.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::program::{End, Program};

/// Runs `command` in `folder` and says whether it ended with success in time.
pub(super) fn run(command: &[String], folder: &Path, timeout: Duration) -> Finding {
    match (Program { command, folder, timeout }).run() {
        Ok(ran) => {
            let healthy = ran.succeeded();
            let reason = match ran.end {
                End::Exited(_) if healthy => "the health check passed".to_owned(),
                End::Exited(status) => format!("the health check ended with {status}"),
                End::TimedOut => {
                    format!("the health check did not end within {} ms and was killed", timeout.as_millis())
                }
            };
            Finding { healthy, reason, output: ran.output }
        }
        Err(error) => Finding {
            healthy: false,
            reason: format!("the health check cannot be run: {error}"),
            output: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;
    use crate::program::OUTPUT_BYTES_MAX;

    fn shell(script: &str, timeout_ms: u64) -> (TempDir, Finding) {
        let folder = TempDir::new().unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let finding = run(&command, folder.path(), Duration::from_millis(timeout_ms));
        (folder, finding)
    }

    #[test]
    fn success_is_healthy_and_failure_is_not() {
        let (_folder, finding) = shell("echo fine; exit 0", 10_000);
        assert!(finding.healthy);
        assert_eq!(finding.output, "fine");
        let (_folder, finding) = shell("echo broken >&2; exit 3", 10_000);
        assert!(!finding.healthy);
        assert_eq!(finding.output, "broken");
        assert!(finding.reason.contains('3'), "{}", finding.reason);
    }

    #[test]
    fn program_that_is_not_there_is_unhealthy() {
        let finding = run(&["/nonexistent/check".to_owned()], Path::new("/"), Duration::from_secs(1));
        assert!(!finding.healthy);
    }

    #[test]
    fn hung_check_is_killed_with_its_children() {
        let begun = Instant::now();
        let script = "(sleep 2; echo late > child) & sleep 60; echo later > parent";
        let (folder, finding) = shell(script, 300);
        assert!(!finding.healthy && begun.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(2300));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a child went on");
    }

    #[test]
    fn children_of_a_passed_check_do_not_stay() {
        let begun = Instant::now();
        let (folder, finding) = shell("(sleep 1; echo late > child) & echo up", 30_000);
        assert!(finding.healthy && begun.elapsed() < Duration::from_secs(1), "{finding:?}");
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!folder.path().join("child").exists());
    }

    #[test]
    fn endless_output_is_bounded() {
        let (_folder, finding) = shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", 500);
        assert!(!finding.healthy && finding.output.len() <= OUTPUT_BYTES_MAX + 3);
    }

    #[test]
    fn closed_output_does_not_end_the_wait() {
        let (_folder, finding) = shell("exec >&- 2>&-; sleep 0.3; exit 0", 10_000);
        assert!(finding.healthy, "{finding:?}");
    }

    #[test]
    fn environment_is_cleaned() {
        // Cargo sets this one for every test.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let (_folder, finding) = shell("env; test -z \"$CARGO_PKG_NAME\" && test -z \"$HOME\"", 10_000);
        assert!(finding.healthy, "{finding:?}");
    }
}
