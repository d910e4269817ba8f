//! What routers and targets say about our probes: ICMP and ICMPv6 errors in words (RFC 792,
//! RFC 1191, RFC 4443, RFC 4861).

use std::fmt;

use serde::Serialize;

use super::echo::Family;

/// An ICMP error, the same for both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IcmpErrorKind {
    /// No route to the network or the destination.
    NetworkUnreachable,
    /// The last router cannot reach the host.
    HostUnreachable,
    /// The host is there, nobody listens on the port.
    PortUnreachable,
    /// A filter refuses it.
    Prohibited,
    /// Unreachable for another reason.
    Unreachable,
    /// Larger than the path allows.
    FragmentationNeeded,
    /// It went through too many routers, or its fragments did not all come.
    TimeExceeded,
    /// Another router is the better next hop; the packet itself went on.
    Redirect,
    /// A router or the target did not understand its header.
    ParameterProblem,
}

impl IcmpErrorKind {
    /// What a message of this type and code says; `None` when it is no error.
    pub const fn of(family: Family, kind: u8, code: u8) -> Option<Self> {
        Some(match (family, kind, code) {
            (Family::V4, 3, 0 | 6 | 8 | 11) | (Family::V6, 1, 0) => Self::NetworkUnreachable,
            (Family::V4, 3, 1 | 7 | 12) | (Family::V6, 1, 3) => Self::HostUnreachable,
            (Family::V4, 3, 3) | (Family::V6, 1, 4) => Self::PortUnreachable,
            (Family::V4, 3, 4) | (Family::V6, 2, _) => Self::FragmentationNeeded,
            (Family::V4, 3, 9 | 10 | 13) | (Family::V6, 1, 1 | 5 | 6) => Self::Prohibited,
            (Family::V4, 3, _) | (Family::V6, 1, _) => Self::Unreachable,
            (Family::V4, 5, _) | (Family::V6, 137, _) => Self::Redirect,
            (Family::V4, 11, _) | (Family::V6, 3, _) => Self::TimeExceeded,
            (Family::V4, 12, _) | (Family::V6, 4, _) => Self::ParameterProblem,
            _ => return None,
        })
    }

    /// Whether the packet it speaks of was not delivered.
    pub const fn is_fatal(self) -> bool {
        !matches!(self, Self::Redirect)
    }
}

impl fmt::Display for IcmpErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::PortUnreachable => "port unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::Unreachable => "destination unreachable",
            Self::FragmentationNeeded => "fragmentation needed",
            Self::TimeExceeded => "time to live exceeded (a routing loop?)",
            Self::Redirect => "redirect to another router",
            Self::ParameterProblem => "parameter problem",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_say_the_same() {
        use IcmpErrorKind as Kind;
        for (v4, v6, kind) in [
            ((3, 1), (1, 3), Kind::HostUnreachable),
            ((3, 3), (1, 4), Kind::PortUnreachable),
            ((3, 4), (2, 0), Kind::FragmentationNeeded),
            ((3, 13), (1, 1), Kind::Prohibited),
            ((11, 0), (3, 0), Kind::TimeExceeded),
            ((5, 1), (137, 0), Kind::Redirect),
        ] {
            assert_eq!(Kind::of(Family::V4, v4.0, v4.1), Some(kind));
            assert_eq!(Kind::of(Family::V6, v6.0, v6.1), Some(kind));
        }
        assert_eq!(Kind::of(Family::V4, 0, 0), None);
        assert_eq!(Kind::of(Family::V6, 129, 0), None);
        assert!(!Kind::Redirect.is_fatal());
    }
}
