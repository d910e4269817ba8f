//! The words of the detector: what it is told, and what it tells.

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;

/// What was learned about one probe. Given in the order in which it became known; a few places of
/// disorder do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// When the probe was sent.
    pub sent: Timestamp,
    /// What became of it.
    pub fate: Fate,
    /// What a router or the target said about it.
    pub icmp_error: Option<IcmpError>,
}

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its reply came in time.
    Replied {
        /// The round trip.
        rtt: Duration,
        /// The hop limit left in the reply, if it is known.
        ttl: Option<u8>,
    },
    /// No reply in time, or a refusal.
    Lost,
    /// Nothing yet, or something that counts for nothing: only the ICMP error is news.
    Unknown,
}

/// An ICMP error, the same words for both families (RFC 792, RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// Network, host or port unreachable, or prohibited.
    Unreachable,
    /// The hop limit ran out: often a loop.
    TtlExceeded,
    /// Larger than the path allows.
    FragmentationNeeded,
    /// Another router is the better next hop.
    Redirect,
}

impl IcmpError {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Unreachable,
        Self::TtlExceeded,
        Self::FragmentationNeeded,
        Self::Redirect,
    ];
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "destination unreachable",
            Self::TtlExceeded => "time to live exceeded",
            Self::FragmentationNeeded => "fragmentation needed",
            Self::Redirect => "redirect",
        })
    }
}

/// What kind of early sign it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignKind {
    /// The round trip has another median than usual at this hour.
    RttLevel,
    /// Round trips differ more from each other than usual at this hour.
    RttSpread,
    /// Several losses close together.
    LossBurst,
    /// Single losses, more often than usual at this hour.
    LossTrend,
    /// Replies come over another number of hops.
    Hops,
    /// A router or the target complains about our probes.
    IcmpError,
}

impl SignKind {
    /// Its short name, for fields and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RttLevel => "rtt-level",
            Self::RttSpread => "rtt-spread",
            Self::LossBurst => "loss-burst",
            Self::LossTrend => "loss-trend",
            Self::Hops => "hops",
            Self::IcmpError => "icmp-error",
        }
    }
}

/// Whether a sign begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It is there now.
    Raised,
    /// It is over.
    Cleared,
}

/// A sign, told when it begins and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// What kind.
    pub kind: SignKind,
    /// Whether it begins or ends.
    pub edge: Edge,
    /// When what it speaks of began, as far as can be told: the time of the event.
    pub since: Timestamp,
    /// When the probe was sent that decided.
    pub at: Timestamp,
    /// One line for people: `RTT median 41 ms, usual 12 ms at this hour, for 40 s`.
    pub text: String,
}

impl Sign {
    /// Of `kind`, decided by the probe sent at `at`: whether it begins, since when, in words.
    pub(super) fn new(
        kind: SignKind,
        at: Timestamp,
        (edge, since, text): (Edge, Timestamp, String),
    ) -> Self {
        Self {
            kind,
            edge,
            since,
            at,
            text,
        }
    }
}
