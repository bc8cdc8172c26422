//! A check by a connection.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::Finding;

/// Says whether `address` takes a connection in time.
pub(super) fn connect(address: &str, timeout: Duration) -> Finding {
    let deadline = Instant::now() + timeout;
    let finding = |healthy, reason| Finding { healthy, reason, output: String::new() };
    let addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return finding(false, format!("the host of the health check is not known: {error}")),
    };
    let mut reason = "the host of the health check has no address".to_owned();
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return finding(true, "the health check passed".to_owned()),
            Err(error) => reason = format!("{address} took no connection: {error}"),
        }
    }
    finding(false, reason)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_what_listens_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let timeout = Duration::from_secs(5);
        assert!(connect(&address, timeout).healthy);
        assert!(connect(&format!("localhost:{}", listener.local_addr().unwrap().port()), timeout).healthy);
        drop(listener);
        let finding = connect(&address, timeout);
        assert!(!finding.healthy && finding.reason.contains(&address), "{finding:?}");
        assert!(!connect("no-such-host.invalid:1", timeout).healthy);
    }
}
