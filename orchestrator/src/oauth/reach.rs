//! Which addresses of an authorization server a secret of ours is sent to.
//!
//! rmcp looks at the addresses of what it sends itself. What this program sends goes by the same rule: a server out in the world
//! must not have it send something to the services of this machine or of its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Whether a server at `resource` may have something sent to `endpoint`, over https or to this machine: to its own host, to a name
/// (whoever answers has to prove it), to a public address, to this machine only when it is there itself, and to a private
/// address only where the operator allows it.
pub(super) fn may_send(endpoint: &str, resource: &str, allow_private: bool) -> bool {
    if !crate::config::is_safe_url(endpoint, true) {
        return false;
    }
    let (Ok(endpoint), Ok(resource)) = (Url::parse(endpoint), Url::parse(resource)) else { return false };
    if endpoint.host_str().is_some() && endpoint.host_str() == resource.host_str() {
        return true;
    }
    match address(&endpoint) {
        None => endpoint.scheme() == "https",
        Some(address) if address.is_loopback() => self::address(&resource).is_some_and(|address| address.is_loopback()),
        Some(IpAddr::V4(address)) => is_public_v4(address) || (allow_private && is_private_v4(address)),
        Some(IpAddr::V6(address)) => is_public_v6(address) || (allow_private && address.is_unique_local()),
    }
}

/// Returns the address that the host of `url` is, if it is none that has to be looked up.
fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?.trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(address.to_canonical())
}

/// Private, or shared by the customers of one provider (RFC 6598).
fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_private() || (first == 100 && (64..128).contains(&second))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    !(is_private_v4(address)
        || address.is_loopback()
        // The services of clouds that tell a machine its keys.
        || address.is_link_local()
        || address.is_multicast()
        || first == 0
        || first >= 240
        || (first == 198 && matches!(second, 18 | 19)))
}

/// Public, and not a way of writing an IPv4 address (6to4, Teredo), whose own rule would be got around. All that is given to
/// hosts of the world is in 2000::/3; the other ways of writing an IPv4 address are outside of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    first & 0xe000 == 0x2000 && first != 0x2002 && (first, second) != (0x2001, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_where_a_server_out_in_the_world_has_no_business() {
        const OUTSIDE: &str = "https://mcp.example/mcp";
        for endpoint in [
            "http://127.0.0.1:8080/token",
            "http://localhost/token",
            "https://localhost./token",
            "https://service.localhost/token",
            "https://127.0.0.1/token",
            "https://127.1/token",
            "https://0x7f000001/token",
            "https://2130706433/token",
            "https://[::1]/token",
            "https://[::ffff:127.0.0.1]/token",
            "https://[::127.0.0.1]/token",
            "https://[64:ff9b::7f00:1]/token",
            "https://[2002:7f00:1::]/token",
            "https://[2001:0:7f00:1::]/token",
            "https://0.0.0.0/token",
            "https://[::]/token",
            "https://10.0.0.9/token",
            "https://172.16.0.1/token",
            "https://192.168.1.1/token",
            "https://100.64.0.1/token",
            "https://169.254.169.254/token",
            "https://198.18.0.1/token",
            "https://224.0.0.1/token",
            "https://255.255.255.255/token",
            "https://[fe80::1]/token",
            "https://[fec0::1]/token",
            "https://[fd00::1]/token",
            "https://[ff02::1]/token",
            "http://93.184.215.14/token",
            "http://mcp.example/token",
            "http://as.example/token",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!may_send(endpoint, OUTSIDE, false), "{endpoint}");
        }
        for endpoint in ["https://169.254.169.254/token", "https://127.0.0.1/token", "https://[fe80::1]/token"] {
            assert!(!may_send(endpoint, OUTSIDE, true), "{endpoint}");
        }
        assert!(!may_send("https://10.0.0.9/token", "http://127.0.0.1/mcp", false));
    }

    #[test]
    fn where_it_belongs_it_is_sent() {
        for (endpoint, resource) in [
            ("https://as.example/token", "https://mcp.example/mcp"),
            ("https://93.184.215.14/token", "https://mcp.example/mcp"),
            ("https://[2606:2800:21f::1]/token", "https://mcp.example/mcp"),
            ("http://127.0.0.1:1/token", "http://127.0.0.1:2/mcp"),
            ("http://localhost:1/token", "http://[::1]:2/mcp"),
            ("https://10.0.0.9/token", "https://10.0.0.9/mcp"),
            ("https://as.example/token", "http://127.0.0.1:2/mcp"),
        ] {
            assert!(may_send(endpoint, resource, false), "{endpoint} for {resource}");
        }
        for endpoint in ["https://10.0.0.9/token", "https://100.64.0.1/token", "https://[fd00::1]/token"] {
            assert!(may_send(endpoint, "https://mcp.example/mcp", true), "{endpoint}");
        }
    }
}
