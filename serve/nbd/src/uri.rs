//! The address of an export as clients write it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// `nbd+unix:///export?socket=PATH`.
pub fn unix(path: &Path, export: &str) -> String {
    format!("nbd+unix:///{}?socket={}", quoted(export.as_bytes()), quoted(path.as_os_str().as_encoded_bytes()))
}

/// `nbd://host:port/export`.
pub fn tcp(address: SocketAddr, export: &str) -> String {
    let name = quoted(export.as_bytes());
    if name.is_empty() { format!("nbd://{address}") } else { format!("nbd://{address}/{name}") }
}

/// Percent-encodes what has a meaning in a URI.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_uri_quotes_what_has_a_meaning() {
        assert_eq!(unix(Path::new("/run/a b?.sock"), "x&y"), "nbd+unix:///x%26y?socket=/run/a%20b%3F.sock");
    }

    #[test]
    fn a_tcp_uri_has_brackets_around_ipv6() {
        assert_eq!(tcp("[::1]:10809".parse().unwrap(), "disk"), "nbd://[::1]:10809/disk");
        assert_eq!(tcp("127.0.0.1:10809".parse().unwrap(), ""), "nbd://127.0.0.1:10809");
    }
}
