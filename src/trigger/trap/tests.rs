//! Datagrams that real senders send are in the black-box tests; here are those that nobody should.

use std::net::IpAddr;
use std::time::Instant;

use proptest::prelude::*;

use super::ber::{Oid, write, write_all, write_integer, write_oid};
use super::engine::Engine;
use super::event::{Event, Told};
use super::security::{Guard, Incoming, Refusal, User};
use super::usm::{Auth, Priv};
use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 5));

fn guard() -> Guard {
    let dir = tempfile::tempdir().unwrap();
    // Keys are slow to make of passwords, on purpose.
    let users = vec![User {
        name: "wire".to_owned(),
        auth: Some((Auth::Sha, vec![1; 20])),
        privacy: Some((Priv::Aes, vec![2; 20])),
    }];
    let engine = Engine::open(dir.path()).unwrap();
    Guard::new(vec!["public".to_owned()], users, engine)
}

fn variable(name: &[u32], value: Vec<u8>) -> Vec<u8> {
    write_all(ber::SEQUENCE, &[write_oid(&Oid::new(name)), value])
}

/// A version 2c message of a trap or inform.
fn message(community: &str, tag: u8, trap: &[u32], variables: &[Vec<u8>]) -> Vec<u8> {
    let mut all = vec![
        variable(
            &[1, 3, 6, 1, 2, 1, 1, 3, 0],
            write(ber::TIME_TICKS, &[0x27, 0x10]),
        ),
        variable(
            &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0],
            write_oid(&Oid::new(trap)),
        ),
    ];
    all.extend_from_slice(variables);
    let zero = || write_integer(0);
    let pdu = [
        write_integer(7),
        zero(),
        zero(),
        write_all(ber::SEQUENCE, &all),
    ];
    let community = write(ber::OCTETS, community.as_bytes());
    write_all(
        ber::SEQUENCE,
        &[write_integer(1), community, write_all(tag, &pdu)],
    )
}

const LINK_DOWN: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 3];
const LINK_UP: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 4];

fn link() -> Vec<Vec<u8>> {
    vec![
        variable(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 8, 3], write_integer(2)),
        variable(
            &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1, 3],
            write(ber::OCTETS, b"Gi0/3\x1b"),
        ),
    ]
}

fn told(guard: &mut Guard, bytes: &[u8]) -> Event {
    match guard.open(bytes, Instant::now()) {
        Ok(Incoming::Notice(notice, _)) => {
            Told::new(&notice, PEER).event("udp", PEER, Timestamp::MIN, Timestamp::now())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_goes_down_and_comes_up() {
    let mut guard = guard();
    let mut link = link();
    let Event::Trigger(down) = told(
        &mut guard,
        &message("public", pdu::TRAP_V2, &LINK_DOWN, &link),
    ) else {
        panic!("no trigger");
    };
    assert_eq!(down.subject, "192.0.2.5 47:69:30:2f:33:1b linkDown");
    assert_eq!(down.fields["ifOperStatus"], "down(2)");
    assert_eq!(down.fields["ifIndex"], "3");
    assert!(down.text.ends_with("(up 100 s)"), "{}", down.text);
    link.truncate(1);
    let Event::Trigger(bare) = told(
        &mut guard,
        &message("public", pdu::TRAP_V2, &LINK_DOWN, &link),
    ) else {
        panic!("no trigger");
    };
    assert_eq!(bare.subject, "192.0.2.5 ifIndex 3 linkDown");
    let Event::Resolution(up) = told(&mut guard, &message("public", pdu::INFORM, &LINK_UP, &link))
    else {
        panic!("no resolution");
    };
    assert_eq!(up.subject, bare.subject);
}

#[test]
fn who_is_not_known_is_refused() {
    let mut guard = guard();
    let now = Instant::now();
    for community in ["", "publi", "private"] {
        let bytes = message(community, pdu::TRAP_V2, &LINK_DOWN, &[]);
        assert_eq!(guard.open(&bytes, now).unwrap_err().0, Refusal::User);
    }
    let get = message("public", 0xa0, &LINK_DOWN, &[]);
    assert!(matches!(guard.open(&get, now), Ok(Incoming::Other)));
}

#[test]
fn which_traps_are_taken() {
    let all = Choice::default();
    assert!(all.takes("linkDown", "1.2") && all.takes("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9.1"));
    assert!(!all.takes("entConfigChange", "1"));
    let config = |text: &str| toml::from_str::<TrapConfig>(text).unwrap();
    let some = config(
        "listen = \"udp://127.0.0.1:0\"\ncommunity = \"c\"\non = [\"linkDown\", \"1.3.6.1.4.1.9.*\"]",
    );
    let dir = tempfile::tempdir().unwrap();
    let bound = some.bind(dir.path()).unwrap();
    assert!(bound.choice.takes("linkUp", "1"), "the end belongs to it");
    assert!(bound.choice.takes("1.3.6.1.4.1.9.4", "1.3.6.1.4.1.9.4"));
    assert!(!bound.choice.takes("coldStart", "1"));
}

#[test]
fn mistakes_name_table_and_key() {
    for (text, words) in [
        (
            "listen = \"tcp://127.0.0.1:162\"\ncommunity = \"c\"",
            "listen",
        ),
        ("listen = \"udp://127.0.0.1:162\"", "community"),
        (
            "listen = \"udp://127.0.0.1:162\"\ncommunity = \"\"",
            "empty",
        ),
        (
            "listen = \"udp://127.0.0.1:162\"\ncommunity = \"c\"\non = [\"linkdown\"]",
            "linkdown",
        ),
        (
            "listen = \"udp://127.0.0.1:162\"\n[[user]]\nname = \"u\"\nauth = \"sha\"",
            "auth_password",
        ),
        (
            "listen = \"udp://127.0.0.1:162\"\n[[user]]\nname = \"u\"\nauth = \"sha\"\nauth_password = \"short\"",
            "8 characters",
        ),
        (
            "listen = \"udp://127.0.0.1:162\"\n[[user]]\nname = \"u\"\npriv = \"aes\"\npriv_password = \"longenough\"",
            "auth",
        ),
        (
            "listen = \"udp://127.0.0.1:162\"\n[[user]]\nname = \"u\"\n[[user]]\nname = \"u\"",
            "twice",
        ),
    ] {
        let config: TrapConfig = toml::from_str(text).unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("[[trap") && error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn no_datagram_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0..120usize,
        value in any::<u8>(),
        version3 in any::<bool>(),
    ) {
        let mut guard = guard();
        let now = Instant::now();
        let _random = guard.open(&bytes, now);
        let mut damaged = message("public", pdu::INFORM, &LINK_DOWN, &link());
        if let Some(byte) = damaged.get_mut(at) {
            *byte = value;
        }
        if version3 {
            damaged = write_all(ber::SEQUENCE, &[write_integer(3), bytes.clone(), damaged]);
        }
        if let Ok(Incoming::Notice(notice, _)) = guard.open(&damaged, now) {
            let _event = Told::new(&notice, PEER).event("udp", PEER, Timestamp::MIN, Timestamp::now());
        }
    }
}

#[test]
fn a_drill_is_taken_as_its_senders_are() {
    let with_community = guard();
    let mut without = guard();
    without.forget_communities();
    for guard in [with_community, without] {
        let rehearsal = Rehearsal {
            address: "127.0.0.1:162".parse().unwrap(),
            guard: guard.clone(),
        };
        let mut guard = guard;
        for mark in ["one", "two"] {
            let opened = guard.open(&rehearsal.datagram(mark), Instant::now());
            let Ok(Incoming::Notice(notice, _)) = opened else {
                panic!("{opened:?}");
            };
            assert!(!notice.inform);
            assert!(notice.raw_variables.ends_with(mark.as_bytes()));
        }
    }
}
