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

/// Frames of syslog over TCP.
pub mod syslog {
    #[path = "../../../src/trigger/syslog/framing.rs"]
    pub mod framing;
}

/// What SNMP messages carry.
pub mod trap {
    #[expect(dead_code, reason = "the keys' part is not fuzzed")]
    #[path = "../../../src/trigger/trap/ber.rs"]
    mod ber;
    #[expect(dead_code, reason = "only reading is fuzzed")]
    #[path = "../../../src/trigger/trap/pdu.rs"]
    mod pdu;

    /// Reads a message of version 1 or 2c; whether it told something, and whether its response
    /// can be read again.
    pub fn read(bytes: &[u8]) -> bool {
        let message = ber::Reader::new(bytes).sequence(ber::SEQUENCE);
        let Ok(mut message) = message else {
            return false;
        };
        let _version_and_community = (message.integer(), message.octets());
        let Ok(Some(notice)) = pdu::notice(&mut message) else {
            return false;
        };
        let response = pdu::response(&notice);
        let mut response = ber::Reader::new(&response);
        assert!(response.sequence(pdu::RESPONSE).is_ok());
        true
    }
}
