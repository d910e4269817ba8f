//! What a trap means: what it is about, and whether something began or is over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::names;
use super::pdu::{Notice, Value};
use crate::time::Timestamp;
use crate::trigger::text::{FIELD_BYTES_MAX, address_of, inert};
use crate::trigger::{Kind, Resolution, Trigger, cut};

/// The trap of an OSPF neighbour, whose state says whether it is a beginning or an end.
const OSPF: &str = "ospfNbrStateChange";
/// `full` of that state.
const OSPF_FULL: &str = "full(8)";

/// What a trap asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// To freeze.
    Trigger(Box<Trigger>),
    /// To end what another trap began.
    Resolution(Box<Resolution>),
}

/// A trap, named and readable.
#[derive(Debug)]
pub(super) struct Told {
    /// `linkDown`, or the numbers of a trap without a name.
    pub(super) name: String,
    /// Its numbers.
    pub(super) oid: String,
    host: String,
    values: BTreeMap<String, String>,
    up: Option<u64>,
}

impl Told {
    pub(super) fn new(notice: &Notice, peer: IpAddr) -> Self {
        let mut values = BTreeMap::new();
        for variable in &notice.variables {
            let (name, index) = names::variable(&variable.name);
            let value = names::value(&name, &variable.value);
            let value = cut(&inert(value.as_bytes()), FIELD_BYTES_MAX).to_owned();
            if let (true, [number]) = (name.starts_with("if"), index.as_slice()) {
                let number = number.to_string();
                values.entry("ifIndex".to_owned()).or_insert(number);
            }
            if let (true, [a, b, c, d]) = (name.starts_with("bgpPeer"), index.as_slice()) {
                let peer = format!("{a}.{b}.{c}.{d}");
                values.entry("bgpPeerRemoteAddr".to_owned()).or_insert(peer);
            }
            if variable.value != Value::None {
                values.insert(name, value);
            }
        }
        Self {
            name: names::trap(&notice.trap),
            oid: notice.trap.to_string(),
            host: notice.agent.unwrap_or(peer).to_canonical().to_string(),
            values,
            up: notice.up,
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// What of the host it is about: an interface, a neighbour.
    fn part(&self) -> Option<String> {
        let named = [
            "ifName",
            "ifDescr",
            "bgpPeerRemoteAddr",
            "ospfNbrRtrId",
            "ospfNbrIpAddr",
        ];
        let named = named.into_iter().find_map(|name| self.get(name));
        let index = || Some(format!("ifIndex {}", self.get("ifIndex")?));
        named.map(str::to_owned).or_else(index)
    }

    fn text(&self) -> String {
        let values = self.values.iter();
        let said: Vec<String> = values
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut text = format!("{} from {}", self.name, self.host);
        if !said.is_empty() {
            text = format!("{text}: {}", said.join(", "));
        }
        if let Some(up) = self.up {
            text = format!("{text} (up {} s)", up / 100);
        }
        text
    }

    /// The event; `peer` is who sent the datagram.
    pub(super) fn event(
        self,
        source: &str,
        peer: IpAddr,
        at: Timestamp,
        received: Timestamp,
    ) -> Event {
        let full = self.name == OSPF && self.get("ospfNbrState") == Some(OSPF_FULL);
        let begun = names::ends(&self.name);
        let name = begun.unwrap_or(&self.name);
        let part = self
            .part()
            .map_or_else(String::new, |part| format!("{part} "));
        let subject = format!("{} {part}{name}", self.host);
        let text = self.text();
        if begun.is_some() || full {
            let over = Resolution::new(Kind::Trap, source, &subject, &text, at, received);
            return Event::Resolution(Box::new(over));
        }
        let mut trigger = Trigger::new(Kind::Trap, source, &subject, &text, at, received);
        let bgp = self.get("bgpPeerRemoteAddr").and_then(address_of);
        trigger.suggested_filter = bgp.map(|address| format!("tcp port 179 and host {address}"));
        trigger.fields = self.values;
        let mut field = |name: &str, value: String| trigger.fields.insert(name.to_owned(), value);
        field("trap", self.name);
        field("trap_oid", self.oid);
        field("host", self.host);
        field("sender", peer.to_canonical().to_string());
        Event::Trigger(Box::new(trigger))
    }
}
