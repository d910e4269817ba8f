//! A trap sent by ourselves for a drill: of version 2c with the listener's community, else of
//! version 3 as its first user.

use std::net::SocketAddr;
use std::time::Instant;

use super::ber::{self, Oid};
use super::pdu::{SNMP_TRAP_OID, SYS_UP_TIME, TRAP_V2};
use super::security::Guard;

/// The trap and its variable, below `netSnmpPlaypen`: numbers that mean nothing to anybody.
const PLAYPEN: [u32; 9] = [1, 3, 6, 1, 4, 1, 8072, 9999, 9999];

/// All that a trap to a listener of ours needs.
#[derive(Debug)]
pub struct Rehearsal {
    /// Where it goes.
    pub address: SocketAddr,
    pub(super) guard: Guard,
}

impl Rehearsal {
    /// The datagram that carries `mark`.
    pub fn datagram(&self, mark: &str) -> Vec<u8> {
        let mut guard = self.guard.clone();
        guard.notification(&pdu(mark), Instant::now())
    }
}

fn pdu(mark: &str) -> Vec<u8> {
    let variable = |name: &[u32], value: Vec<u8>| {
        ber::write_all(ber::SEQUENCE, &[ber::write_oid(&Oid::new(name)), value])
    };
    let own = Oid::new(&PLAYPEN);
    let variables = [
        variable(&SYS_UP_TIME, ber::write(ber::TIME_TICKS, &[0])),
        variable(&SNMP_TRAP_OID, ber::write_oid(&own.join(&[0, 1]))),
        variable(
            own.join(&[1, 0]).ids(),
            ber::write(ber::OCTETS, mark.as_bytes()),
        ),
    ];
    ber::write_all(
        TRAP_V2,
        &[
            ber::write_integer(1),
            ber::write_integer(0),
            ber::write_integer(0),
            ber::write_all(ber::SEQUENCE, &variables),
        ],
    )
}
