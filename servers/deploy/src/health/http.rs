//! A check over HTTP.

use std::time::Duration;

use ureq::Agent;

use super::Finding;
use crate::program::printable_end;

/// How much of an answer is looked at: enough to see what is wrong.
const BODY_BYTES_MAX: u64 = 1000;

/// Asks `address` and says whether it answers with a status of 200 to 299 in time; redirects are not followed.
pub(super) fn get(address: &str, timeout: Duration) -> Finding {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        // A proxy of the environment would answer for a service that is down.
        .proxy(None)
        .max_idle_connections(0)
        .build()
        .into();
    match agent.get(address).call() {
        Ok(mut response) => {
            let status = response.status();
            // What can be read of a body that is too long or stops in the middle is of no use to anybody.
            let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().unwrap_or_default();
            let healthy = status.is_success();
            let reason = if healthy { "the health check passed" } else { "the health check was answered with" };
            let reason = if healthy { reason.to_owned() } else { format!("{reason} {status}") };
            Finding { healthy, reason, output: printable_end(&body) }
        }
        Err(error) => Finding {
            healthy: false,
            reason: format!("the health check was not answered: {error}"),
            output: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// Answers one connection with `answer` and returns the address.
    fn answering(answer: &'static str, after: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            thread::sleep(after);
            let _ = stream.write_all(answer.as_bytes());
        });
        format!("http://{address}/health")
    }

    fn check(answer: &'static str, after_ms: u64) -> Finding {
        get(&answering(answer, Duration::from_millis(after_ms)), Duration::from_millis(500))
    }

    #[test]
    fn only_success_in_time_is_healthy() {
        let finding = check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup", 0);
        assert!(finding.healthy, "{finding:?}");
        assert_eq!(finding.output, "up");
        assert!(check("HTTP/1.1 204 No Content\r\n\r\n", 0).healthy);
        let finding = check("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\ndown", 0);
        assert!(!finding.healthy && finding.reason.contains("503") && finding.output == "down", "{finding:?}");
        assert!(!check("nonsense\r\n\r\n", 0).healthy);
        let begun = Instant::now();
        assert!(!check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 2000).healthy);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(!get("http://127.0.0.1:1/", Duration::from_millis(500)).healthy);
    }

    #[test]
    fn redirects_are_not_followed() {
        let elsewhere = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Duration::ZERO);
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
        let finding = get(&answering(answer.leak(), Duration::ZERO), Duration::from_millis(500));
        assert!(!finding.healthy && finding.reason.contains("302"), "{finding:?}");
    }
}
