use super::*;
use crate::wire::request_error::Errno;

const SIZE: u64 = 1 << 40;

fn limits(headers: Headers) -> RequestLimits {
    RequestLimits { size: Bytes(SIZE), read_only: false, headers, allocation: true }
}

fn extended(flags: u16, kind: u16, offset: u64, len: u64) -> Header {
    Header { flags, kind, cookie: 7, offset, len }
}

fn meaning(header: Header) -> Result<Command, RequestError> {
    header.command(&limits(Headers::Extended))
}

#[test]
fn each_header_form_has_its_magic_and_length() {
    let mut bytes = EXTENDED_REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 1, 0, 6]);
    for number in [0x0102_0304_0506_0708_u64, 4096, 0x1122_3344_5566_7788] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    assert_eq!(bytes.len(), Headers::Extended.request_len());
    let header = Header::parse(&bytes, Headers::Extended).expect("the right magic");
    let expected = Header {
        flags: 1,
        kind: 6,
        cookie: 0x0102_0304_0506_0708,
        offset: 4096,
        len: 0x1122_3344_5566_7788,
    };
    assert_eq!(header, expected);
    assert_eq!(Header::parse(&bytes, Headers::Structured), None);
    bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    assert_eq!(Header::parse(&bytes, Headers::Extended), None);
    let compact = Header::parse(&bytes[..28], Headers::Structured).expect("the right magic");
    assert_eq!(compact.len, 0x1122_3344);
}

#[test]
fn payload_flag_announces_a_payload() {
    for kind in 0..10 {
        assert_eq!(extended(0, kind, 0, 512).payload(Headers::Extended), 0);
        assert_eq!(extended(flag::PAYLOAD_LEN, kind, 0, 512).payload(Headers::Extended), 512);
        let compact = if kind == cmd::WRITE { 512 } else { 0 };
        assert_eq!(extended(0, kind, 0, 512).payload(Headers::Simple), compact);
        let max = u64::from(MAX_PAYLOAD);
        assert!(
            !extended(flag::PAYLOAD_LEN, kind, 0, max).exceeds_payload_limit(Headers::Extended)
        );
        assert!(
            extended(flag::PAYLOAD_LEN, kind, 0, max + 1).exceeds_payload_limit(Headers::Extended)
        );
        assert!(!extended(0, kind, 0, u64::MAX).exceeds_payload_limit(Headers::Extended));
        assert!(!extended(0, kind, 0, u32::MAX.into()).exceeds_payload_limit(Headers::Structured));
    }
}

#[test]
fn only_writes_take_the_payload_flag() {
    assert_eq!(meaning(extended(0, cmd::WRITE, 0, 512)), Err(RequestError::NoPayload));
    assert!(meaning(extended(flag::PAYLOAD_LEN, cmd::WRITE, 0, 512)).is_ok());
    for kind in [cmd::READ, cmd::FLUSH, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS]
    {
        let flags = flag::PAYLOAD_LEN;
        assert_eq!(
            meaning(extended(flags, kind, 0, 0)),
            Err(RequestError::Flags { flags }),
            "command {kind}"
        );
    }
    let flags = flag::PAYLOAD_LEN;
    let compact = extended(flags, cmd::WRITE, 0, 512).command(&limits(Headers::Structured));
    assert_eq!(compact, Err(RequestError::Flags { flags }));
}

#[test]
fn only_requests_without_data_take_long_ranges() {
    for kind in [cmd::TRIM, cmd::WRITE_ZEROES, cmd::CACHE, cmd::BLOCK_STATUS] {
        assert!(meaning(extended(0, kind, 0, SIZE)).is_ok(), "command {kind}");
        for (offset, len) in [(0, SIZE + 1), (1, SIZE), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            let errno = meaning(extended(0, kind, offset, len)).expect_err("past the end").errno();
            assert_eq!(errno, if kind == cmd::WRITE_ZEROES { Errno::NoSpc } else { Errno::Inval });
        }
    }
    assert_eq!(
        meaning(extended(0, cmd::READ, 0, SIZE)),
        Err(RequestError::ReadTooLong { len: SIZE })
    );
}
