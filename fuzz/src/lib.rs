//! The layers of the program that read bytes nobody vouches for, compiled from its own sources
//! with whatever the compiler is told to add: coverage for libFuzzer, or a sanitizer. Only these
//! layers, so that neither SQLite nor the web server is built for it.

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/counters.rs"]
pub mod counters;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/packet/mod.rs"]
pub mod packet;
#[path = "../../src/pcapng/mod.rs"]
pub mod pcapng;
#[path = "../../src/recorder/mod.rs"]
pub mod recorder;
#[path = "../../src/ring/mod.rs"]
pub mod ring;
#[path = "../../src/time.rs"]
pub mod time;
#[cfg(not(test))]
#[path = "../../src/tls/mod.rs"]
pub mod tls;
/// All sources; not where the unit tests of the recorder run under sanitizers.
#[cfg(not(test))]
#[path = "../../src/trigger/mod.rs"]
pub mod trigger;

#[cfg(not(test))]
pub mod targets;

/// The chained lines of an incident.
pub mod incident {
    #[expect(dead_code, reason = "only reading and appending are fuzzed")]
    #[path = "../../../src/incident/chain.rs"]
    mod chain;
    #[expect(dead_code, reason = "only reading and appending are fuzzed")]
    #[path = "../../../src/incident/durable.rs"]
    mod durable;

    use std::path::Path;

    use crate::error::IoError;

    /// Reads the chain in `path`, adds a line when it is whole, and reads it again: how many lines
    /// were whole before and after, and whether the rest was broken.
    pub fn read_and_append(path: &Path) -> Result<(usize, usize, bool), IoError> {
        let mut read = chain::read::<serde_json::Value>(path)?;
        let (whole, broken) = (read.items.len(), read.broken.is_some());
        assert_eq!(whole, read.hashes.len());
        if !broken {
            chain::append(path, &mut read.head, &[serde_json::json!({"added": true})])?;
        }
        let again = chain::read::<serde_json::Value>(path)?;
        Ok((whole, again.items.len(), broken))
    }
}

/// What comes back to our probes.
pub mod probe {
    #[path = "../../../src/trigger/probe/dns.rs"]
    pub mod dns;
    #[path = "../../../src/trigger/probe/echo.rs"]
    pub mod echo;
    #[path = "../../../src/trigger/probe/icmp_error.rs"]
    pub mod icmp_error;
    #[path = "../../../src/trigger/probe/stamp.rs"]
    pub mod stamp;
}

/// SNMP messages, from the bytes to what is told of them.
#[cfg(not(test))]
pub mod trap {
    #[path = "../../../src/trigger/trap/ber.rs"]
    mod ber;
    #[path = "../../../src/trigger/trap/engine.rs"]
    mod engine;
    #[path = "../../../src/trigger/trap/event.rs"]
    mod event;
    #[expect(dead_code, reason = "the choice of traps is not fuzzed")]
    #[path = "../../../src/trigger/trap/names.rs"]
    mod names;
    #[path = "../../../src/trigger/trap/pdu.rs"]
    mod pdu;
    #[expect(dead_code, reason = "keys are not made of passwords here")]
    #[path = "../../../src/trigger/trap/security.rs"]
    mod security;
    #[expect(dead_code, reason = "keys are not made of passwords here")]
    #[path = "../../../src/trigger/trap/usm.rs"]
    mod usm;

    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;
    use std::time::Instant;

    use ber::Reader;
    use event::{Event, Told};
    use security::{Guard, Incoming, User};

    use crate::time::Timestamp;
    use crate::trigger::text::inert;

    /// Whom anybody may be: a community, and a user without a key.
    pub struct Ear(Guard);

    impl Ear {
        /// Keeps its engine in `folder`.
        pub fn new(folder: &Path) -> Self {
            let user = User {
                name: "u".to_owned(),
                auth: None,
                privacy: None,
            };
            let engine = engine::Engine::open(folder).unwrap();
            Self(Guard::new(vec!["public".to_owned()], vec![user], engine))
        }

        /// Hears a datagram of any version; whether it told something.
        pub fn hear(&mut self, bytes: &[u8]) -> bool {
            let Ok(Incoming::Notice(notice, reply)) = self.0.open(bytes, Instant::now()) else {
                return false;
            };
            assert!(reply.is_empty() || Reader::new(&reply).sequence(ber::SEQUENCE).is_ok());
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            match Told::new(&notice, peer).event("trap", peer, Timestamp::MIN, Timestamp::MIN) {
                Event::Trigger(trigger) => {
                    super::targets::trigger::check(&trigger);
                }
                Event::Resolution(resolution) => {
                    assert_eq!(inert(resolution.text.as_bytes()), resolution.text);
                }
            }
            true
        }
    }

    /// Reads elements within elements; numbers and identifiers come back as they were.
    pub fn elements(bytes: &[u8], depth: u8) {
        let mut reader = Reader::new(bytes);
        while let Ok((tag, contents)) = reader.element() {
            assert!(contents.len() + reader.rest().len() < bytes.len());
            if let Ok(number) = ber::integer(contents) {
                assert_eq!(
                    Reader::new(&ber::write_integer(number)).integer(),
                    Ok(number)
                );
            }
            if let Ok(oid) = ber::oid(contents) {
                assert_eq!(Reader::new(&ber::write_oid(&oid)).oid(), Ok(oid));
            }
            let again = ber::write(tag, contents);
            assert_eq!(Reader::new(&again).element(), Ok((tag, contents)));
            let _counter = ber::unsigned(contents);
            if depth > 0 {
                elements(contents, depth - 1);
            }
        }
    }
}
