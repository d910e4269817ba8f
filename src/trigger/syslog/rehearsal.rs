//! A message sent by ourselves for a drill, over the listener's own transport.

use std::net::SocketAddr;

use tokio_rustls::TlsConnector;

use super::Listen;
use crate::time::Timestamp;
use crate::tls::to_ourselves;

/// Facility user, severity informational (RFC 5424, 6.2.1).
const PRI: u8 = 14;

/// How the message gets there.
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection.
    Tcp,
    /// A connection within TLS.
    Tls(TlsConnector),
}

/// All that a message to a listener of ours needs.
pub struct Rehearsal {
    /// Where it goes.
    pub address: SocketAddr,
    /// How.
    pub transport: Transport,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// For a listener on `address`; or why there is none.
    pub(super) fn new(address: SocketAddr, listen: &Listen) -> Result<Self, String> {
        let transport = match listen {
            Listen::Udp(_) => Transport::Udp,
            Listen::Tcp(_) => Transport::Tcp,
            Listen::Tls(_, files) => Transport::Tls(to_ourselves(files, true)?),
        };
        Ok(Self { address, transport })
    }

    /// The message (RFC 5424) that carries `mark`; over a connection with its length in front.
    pub fn message(&self, mark: &str, now: Timestamp) -> Vec<u8> {
        let at = now.to_rfc3339();
        // Six decimals at most (RFC 5424, 6.2.3).
        let at = at.get(..26).unwrap_or(&at);
        let message = format!("<{PRI}>1 {at}Z wirewitness.invalid wirewitness - - - drill {mark}");
        match self.transport {
            Transport::Udp => message.into_bytes(),
            Transport::Tcp | Transport::Tls(_) => {
                format!("{} {message}", message.len()).into_bytes()
            }
        }
    }
}
