//! A check over HTTP.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;

use super::Finding;
use crate::program::printable_end;

/// How much of an answer is looked at.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// How much of an answer is shown: enough to see what is wrong.
const SHOWN_BYTES_MAX: usize = 1000;

/// Asks `address` and says whether it answers in time with a status of 200 to 299 and a text that contains `expected`;
/// redirects are not followed.
pub(super) fn get(address: &str, expected: Option<&str>, timeout: Duration) -> Finding {
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
            // What was read of a body that is too long, or stops in the middle, may be enough.
            let mut body = Vec::new();
            let _ = response.body_mut().as_reader().take(BODY_BYTES_MAX).read_to_end(&mut body);
            let contains = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
            let reason = if !status.is_success() {
                format!("the health check was answered with {status}")
            } else if let Some(missing) = expected.filter(|text| !contains(text)) {
                format!("the answer to the health check does not contain {missing:?}")
            } else {
                let output = printable_end(&body[..body.len().min(SHOWN_BYTES_MAX)]);
                return Finding { healthy: true, reason: "the health check passed".to_owned(), output };
            };
            Finding { healthy: false, reason, output: printable_end(&body[..body.len().min(SHOWN_BYTES_MAX)]) }
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
    use std::io::Write;
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
        get(&answering(answer, Duration::from_millis(after_ms)), None, Duration::from_millis(500))
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
        assert!(!get("http://127.0.0.1:1/", None, Duration::from_millis(500)).healthy);
    }

    #[test]
    fn answer_must_contain_what_is_expected() {
        let ask = |expected| {
            let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nstatus:up", Duration::ZERO);
            get(&address, Some(expected), Duration::from_millis(500))
        };
        assert!(ask("up").healthy && ask("status:up").healthy);
        let finding = ask("status:down");
        assert!(!finding.healthy && finding.reason.contains("status:down") && finding.output == "status:up");
        assert!(!ask("a text that is longer than the answer").healthy);
    }

    #[test]
    fn redirects_are_not_followed() {
        let elsewhere = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Duration::ZERO);
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
        let finding = get(&answering(answer.leak(), Duration::ZERO), None, Duration::from_millis(500));
        assert!(!finding.healthy && finding.reason.contains("302"), "{finding:?}");
    }
}
