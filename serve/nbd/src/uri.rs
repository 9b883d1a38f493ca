//! The NBD URI of an export.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Returns `nbd+unix:///export?socket=PATH`. The path is absolute, so that clients may run in any
/// directory.
pub(crate) fn unix(path: &Path, export: &str) -> String {
    // Fails only for an empty path, or if the current directory was removed.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    format!(
        "nbd+unix:///{}?socket={}",
        percent_encoded(export.as_bytes()),
        percent_encoded(path.as_os_str().as_encoded_bytes())
    )
}

/// Returns `nbd://host:port/export`. If the server listens on all addresses, the host is the
/// address that other machines most likely reach.
pub(crate) fn tcp(address: SocketAddr, export: &str) -> String {
    let (host, port) = (host(reachable(address)), address.port());
    match percent_encoded(export.as_bytes()) {
        name if name.is_empty() => format!("nbd://{host}:{port}"),
        name => format!("nbd://{host}:{port}/{name}"),
    }
}

/// Returns the host part of a URI. A percent sign precedes the scope of a link-local address and
/// must be encoded.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) if address.scope_id() == 0 => format!("[{}]", address.ip()),
        SocketAddr::V6(address) => format!("[{}%25{}]", address.ip(), address.scope_id()),
    }
}

/// Replaces the unspecified address by one that a client can connect to: the source address of
/// outgoing packets, or else the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let found = match address.ip() {
        // Addresses reserved for documentation: only the route is looked up, nothing is sent.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            source([192, 0, 2, 1].into()).unwrap_or(Ipv4Addr::LOCALHOST.into())
        }
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            source([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()).unwrap_or(Ipv6Addr::LOCALHOST.into())
        }
        _ => return address,
    };
    SocketAddr::new(found, address.port())
}

/// Returns the local address from which this machine reaches `target`.
fn source(target: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Percent-encodes all bytes but unreserved characters and slashes.
fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(*byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_uri_is_percent_encoded() {
        assert_eq!(
            unix(Path::new("/run/a b?.sock"), "x&y"),
            "nbd+unix:///x%26y?socket=/run/a%20b%3F.sock"
        );
    }

    #[test]
    fn a_relative_path_becomes_absolute() {
        let here = std::env::current_dir().expect("a directory");
        let socket = percent_encoded(here.join("disk.sock").as_os_str().as_encoded_bytes());
        assert_eq!(unix(Path::new("disk.sock"), ""), format!("nbd+unix:///?socket={socket}"));
        assert_eq!(unix(Path::new("./disk.sock"), ""), format!("nbd+unix:///?socket={socket}"));
    }

    #[test]
    fn a_uri_of_all_addresses_is_reachable() {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(any) else { continue };
            let address = listener.local_addr().expect("bound");
            let uri = tcp(address, "disk");
            assert!(!uri.contains("0.0.0.0") && !uri.contains("[::]"), "{uri}");
            let host = uri
                .strip_prefix("nbd://")
                .and_then(|rest| rest.strip_suffix("/disk"))
                .expect("a URI");
            std::net::TcpStream::connect(host).unwrap_or_else(|error| panic!("{uri}: {error}"));
        }
    }

    #[test]
    fn the_scope_of_an_address_is_encoded() {
        let address = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 10809, 0, 3);
        assert_eq!(tcp(address.into(), ""), "nbd://[fe80::1%253]:10809");
    }

    #[test]
    fn a_tcp_uri_has_brackets_around_ipv6() {
        assert_eq!(tcp("[::1]:10809".parse().unwrap(), "disk"), "nbd://[::1]:10809/disk");
        assert_eq!(tcp("127.0.0.1:10809".parse().unwrap(), ""), "nbd://127.0.0.1:10809");
    }
}
