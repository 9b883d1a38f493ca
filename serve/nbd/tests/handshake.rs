//! The handshake on the level of bytes: every option gets a reply, and the next one is found.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::sync::Arc;

use nbd::ServerConfig;

use support::client::{Client, long, word};
use support::disk::Disk;
use support::served::Served;

const ACK: u32 = 1;
const UNSUP: u32 = (1 << 31) + 1;
const INVALID: u32 = (1 << 31) + 3;
const UNKNOWN: u32 = (1 << 31) + 6;
const TOO_BIG: u32 = (1 << 31) + 9;

fn served() -> Served {
    let config = ServerConfig {
        export_name: "disk".into(),
        description: "a text".into(),
        ..ServerConfig::default()
    };
    Served::with(Arc::new(Disk::new(1 << 20)), config)
}

fn go_data(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name.as_bytes());
    data.extend_from_slice(&(infos.len() as u16).to_be_bytes());
    infos.iter().for_each(|info| data.extend_from_slice(&info.to_be_bytes()));
    data
}

fn context_data(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name.as_bytes());
    data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend_from_slice(&(query.len() as u32).to_be_bytes());
        data.extend_from_slice(query.as_bytes());
    }
    data
}

fn kinds(replies: &[(u32, Vec<u8>)]) -> Vec<u32> {
    replies.iter().map(|reply| reply.0).collect()
}

#[test]
fn unknown_options_are_refused_and_skipped() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    for option in [0, 4, 5, 12, 77, u32::MAX] {
        assert_eq!(kinds(&client.ask(option, &[0xab; 1000])), [UNSUP], "option {option}");
    }
    assert_eq!(kinds(&client.ask(3, &[])), [2, ACK]);
}

#[test]
fn overlong_option_data_are_skipped() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    assert_eq!(kinds(&client.ask(7, &vec![0; 3 << 20])), [TOO_BIG]);
    assert_eq!(kinds(&client.ask(4711, &vec![0; 3 << 20])), [UNSUP]);
    assert_eq!(kinds(&client.ask(3, &[])), [2, ACK]);
}

#[test]
fn list_returns_the_name_and_description() {
    let served = served();
    let replies = Client::greet(served.path(), 3).ask(3, &[]);
    assert_eq!(replies[0], (2, b"\0\0\0\x04diska text".to_vec()));
}

#[test]
fn list_with_data_is_invalid() {
    let served = served();
    assert_eq!(kinds(&Client::greet(served.path(), 3).ask(3, &[1])), [INVALID]);
}

#[test]
fn go_returns_the_requested_information() {
    let served = served();
    let replies = Client::greet(served.path(), 3).ask(7, &go_data("disk", &[1, 2, 3, 999]));
    assert_eq!(kinds(&replies), [3, 3, 3, 3, ACK]);
    assert_eq!((replies[0].1[..2].to_vec(), long(&replies[0].1[2..])), (vec![0, 0], 1 << 20));
    assert_eq!(replies[1].1, b"\0\x01disk");
    assert_eq!(replies[2].1, b"\0\x02a text");
    let sizes: Vec<u32> = replies[3].1[2..].chunks(4).map(word).collect();
    assert_eq!(sizes, [1, 4096, 32 << 20]);
}

#[test]
fn df_is_offered_only_with_structured_replies() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    let flags =
        |replies: Vec<(u32, Vec<u8>)>| u16::from_be_bytes(replies[0].1[10..12].try_into().unwrap());
    assert_eq!(flags(client.ask(6, &go_data("", &[]))) & (1 << 7), 0);
    client.ask(8, &[]);
    assert_ne!(flags(client.ask(6, &go_data("", &[]))) & (1 << 7), 0);
}

#[test]
fn a_read_only_device_sets_its_flag() {
    let served = Served::unix(Arc::new(Disk::read_only(1 << 20)));
    let replies = Client::greet(served.path(), 3).ask(6, &go_data("", &[]));
    assert_ne!(replies[0].1[11] & 2, 0);
}

#[test]
fn an_unknown_name_is_refused_and_can_be_corrected() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    assert_eq!(kinds(&client.ask(7, &go_data("other", &[]))), [UNKNOWN]);
    assert_eq!(kinds(&client.ask(7, &go_data("disk", &[]))), [3, ACK]);
}

#[test]
fn malformed_go_data_are_invalid() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    let mut trailing = go_data("disk", &[]);
    trailing.push(0);
    for data in [&[][..], &[0, 0], &[0xff; 6], &[0, 0, 0, 0, 0, 9], &trailing] {
        assert_eq!(kinds(&client.ask(7, data)), [INVALID], "{data:?}");
    }
    assert_eq!(kinds(&client.ask(7, &go_data("", &[]))), [3, ACK]);
}

#[test]
fn export_name_works_with_and_without_zeroes() {
    let served = served();
    for (flags, len) in [(3, 10), (1, 134)] {
        let mut client = Client::greet(served.path(), flags);
        client.send_option(1, b"disk");
        assert_eq!(long(&client.take(len)), 1 << 20);
        assert_eq!(client.load(0, 4), [0; 4]);
    }
}

#[test]
fn export_name_with_a_wrong_name_ends_the_connection() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    client.send_option(1, b"other");
    assert!(client.is_closed());
}

#[test]
fn unknown_client_flags_end_the_connection() {
    let served = served();
    assert!(Client::greet(served.path(), 0x8003).is_closed());
}

#[test]
fn abort_is_acknowledged_even_with_data() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    assert_eq!(kinds(&client.ask(2, b"bye")), [ACK]);
    assert!(client.is_closed());
}

#[test]
fn only_full_names_select_contexts() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    assert_eq!(kinds(&client.ask(10, &context_data("disk", &["base:allocation"]))), [INVALID]);
    client.ask(8, &[]);
    assert_eq!(kinds(&client.ask(9, &context_data("disk", &[]))), [4, ACK]);
    assert_eq!(kinds(&client.ask(9, &context_data("disk", &["base:"]))), [4, ACK]);
    assert_eq!(kinds(&client.ask(9, &context_data("disk", &["qemu:dirty"]))), [ACK]);
    assert_eq!(kinds(&client.ask(9, &context_data("other", &[]))), [UNKNOWN]);
    assert_eq!(kinds(&client.ask(10, &context_data("disk", &["base:"]))), [ACK]);
    assert_eq!(
        kinds(
            &client.ask(10, &context_data("disk", &["x:y", "base:allocation", "base:allocation"]))
        ),
        [4, ACK]
    );
}

#[test]
fn a_failed_selection_clears_the_earlier_one() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    client.ask(8, &[]);
    client.ask(10, &context_data("disk", &["base:allocation"]));
    assert_eq!(kinds(&client.ask(10, &context_data("other", &["base:allocation"]))), [UNKNOWN]);
    client.ask(7, &go_data("disk", &[]));
    assert_eq!(client.error_of(0, 7, 0, 4096), 22);
}

#[test]
fn wrong_option_magic_ends_the_connection() {
    let served = served();
    let mut client = Client::greet(served.path(), 3);
    client.send(b"IHAVEOPX\0\0\0\x03\0\0\0\0");
    assert!(client.is_closed());
}
