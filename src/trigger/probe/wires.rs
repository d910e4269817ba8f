//! The sockets of all probes, opened while there is still the privilege to.

use std::io;
use std::net::IpAddr;

use super::config::{ProbeConfig, ProbeKind};
use super::echo::Family;
use super::socket::Wire;

/// One socket per family and use, by place: echoes, echoes that must not be fragmented, queries.
#[derive(Debug)]
pub struct Wires {
    wires: [Result<Wire, String>; Self::COUNT],
    ports: [u16; Self::COUNT],
}

impl Wires {
    pub(super) const COUNT: usize = 6;
    const DF: usize = 2;
    const UDP: usize = 4;

    /// Opens what these probes need. Fails when there are echoes to be sent and neither family's
    /// socket can be had.
    pub fn open(probes: &[ProbeConfig]) -> io::Result<Self> {
        let kind = |kind| probes.iter().any(|probe| probe.kind == kind);
        let echo = kind(ProbeKind::Icmp);
        let df = probes.iter().any(|probe| probe.df);
        let unused = || Err(io::Error::other("no probe needs it"));
        let open = |wanted: bool, open: &dyn Fn() -> io::Result<Wire>| {
            if wanted { open() } else { unused() }
        };
        let wires = [
            open(echo, &|| Wire::icmp(Family::V4, false)),
            open(echo, &|| Wire::icmp(Family::V6, false)),
            open(df, &|| Wire::icmp(Family::V4, true)),
            open(df, &|| Wire::icmp(Family::V6, true)),
            open(kind(ProbeKind::Dns), &|| Wire::udp(Family::V4)),
            open(kind(ProbeKind::Dns), &|| Wire::udp(Family::V6)),
        ];
        if let ([Err(error), Err(_), ..], true) = (&wires, echo) {
            return Err(io::Error::new(
                error.kind(),
                format!(
                    "cannot open an ICMP socket: {error}; give CAP_NET_RAW, or put the group \
                     into net.ipv4.ping_group_range"
                ),
            ));
        }
        let wires = wires.map(|wire| wire.map_err(|error| error.to_string()));
        let port = |wire: &Result<Wire, String>| wire.as_ref().map_or(0, Wire::port);
        Ok(Self {
            ports: wires.each_ref().map(port),
            wires,
        })
    }

    pub(super) fn family(address: IpAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The place of the socket for echoes.
    pub(super) fn icmp(family: Family, df: bool) -> usize {
        usize::from(family == Family::V6) + if df { Self::DF } else { 0 }
    }

    /// The place of the socket for queries.
    pub(super) fn udp(family: Family) -> usize {
        Self::UDP + usize::from(family == Family::V6)
    }

    pub(super) fn is_udp(place: usize) -> bool {
        place >= Self::UDP
    }

    pub(super) fn get(&self, place: usize) -> Option<&Wire> {
        self.wires.get(place)?.as_ref().ok()
    }

    /// Our port for queries to this address.
    pub(super) fn udp_port(&self, to: IpAddr) -> u16 {
        let port = self.ports.get(Self::udp(Self::family(to)));
        port.copied().unwrap_or(0)
    }

    /// Those that are open, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Wire)> {
        let wires = self.wires.iter().enumerate();
        wires.filter_map(|(place, wire)| Some((place, wire.as_ref().ok()?)))
    }

    /// Whether this address can be probed; the text says why not.
    pub(super) fn can_reach(
        &self,
        kind: ProbeKind,
        df: bool,
        address: IpAddr,
    ) -> Result<(), String> {
        let family = Self::family(address);
        let place = match kind {
            ProbeKind::Tcp => return Ok(()),
            ProbeKind::Icmp => Self::icmp(family, df),
            ProbeKind::Dns => Self::udp(family),
        };
        match self.wires.get(place) {
            Some(Err(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }
}
