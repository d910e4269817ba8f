//! Readable names of the standard traps and of the variables they carry, so that no MIB file is
//! needed.

use super::ber::Oid;
use super::pdu::{SNMP_TRAPS, Value};
use crate::trigger::text::inert;

/// Traps that say that what another said is over: the trap, and the one it ends.
const ENDS: [(&str, &str); 3] = [
    ("linkUp", "linkDown"),
    ("bgpEstablished", "bgpBackwardTransition"),
    ("bgpEstablishedNotification", "bgpBackwardTransNotification"),
];

/// Traps by name. Sources: RFC 3418, 4273, 1657, 4188, 4750, 4133, 2819, 3433, 2787, 4750, 7257;
/// IEEE 802.1AB; `NET-SNMP-AGENT-MIB`; `CISCO-CONFIG-MAN-MIB`, `CISCO-STACKWISE-MIB`, `UPS-MIB` (RFC 1628).
const TRAPS: &[(&[u32], &str)] = &[
    (&[1, 3, 6, 1, 2, 1, 15, 7, 1], "bgpEstablished"),
    (&[1, 3, 6, 1, 2, 1, 15, 7, 2], "bgpBackwardTransition"),
    (&[1, 3, 6, 1, 2, 1, 15, 0, 1], "bgpEstablishedNotification"),
    (
        &[1, 3, 6, 1, 2, 1, 15, 0, 2],
        "bgpBackwardTransNotification",
    ),
    (&[1, 3, 6, 1, 2, 1, 17, 0, 1], "newRoot"),
    (&[1, 3, 6, 1, 2, 1, 17, 0, 2], "topologyChange"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 1], "ospfVirtIfStateChange"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 2], "ospfNbrStateChange"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 3], "ospfVirtNbrStateChange"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 4], "ospfIfConfigError"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 6], "ospfIfAuthFailure"),
    (&[1, 3, 6, 1, 2, 1, 14, 16, 2, 16], "ospfIfStateChange"),
    (&[1, 3, 6, 1, 2, 1, 47, 2, 0, 1], "entConfigChange"),
    (
        &[1, 3, 6, 1, 2, 1, 99, 2, 0, 1],
        "entSensorThresholdNotification",
    ),
    (&[1, 3, 6, 1, 2, 1, 16, 0, 1], "risingAlarm"),
    (&[1, 3, 6, 1, 2, 1, 16, 0, 2], "fallingAlarm"),
    (&[1, 3, 6, 1, 2, 1, 68, 0, 1], "vrrpTrapNewMaster"),
    (&[1, 3, 6, 1, 2, 1, 33, 2, 1], "upsTrapOnBattery"),
    (&[1, 3, 6, 1, 2, 1, 33, 2, 2], "upsTrapTestCompleted"),
    (&[1, 3, 6, 1, 2, 1, 33, 2, 3], "upsTrapAlarmEntryAdded"),
    (&[1, 3, 6, 1, 2, 1, 33, 2, 4], "upsTrapAlarmEntryRemoved"),
    (&[1, 0, 8802, 1, 1, 2, 0, 0, 1], "lldpRemTablesChange"),
    (&[1, 3, 6, 1, 4, 1, 8072, 4, 0, 1], "nsNotifyStart"),
    (&[1, 3, 6, 1, 4, 1, 8072, 4, 0, 2], "nsNotifyShutdown"),
    (&[1, 3, 6, 1, 4, 1, 8072, 4, 0, 3], "nsNotifyRestart"),
    (
        &[1, 3, 6, 1, 4, 1, 9, 9, 43, 2, 0, 1],
        "ciscoConfigManEvent",
    ),
    (
        &[1, 3, 6, 1, 4, 1, 9, 9, 43, 2, 0, 2],
        "ccmCLIRunningConfigChanged",
    ),
    (
        &[1, 3, 6, 1, 4, 1, 9, 9, 82, 2, 0, 1],
        "stpxInconsistencyUpdate",
    ),
];

/// The generic traps, from 1 on.
const GENERIC: [&str; 6] = [
    "coldStart",
    "warmStart",
    "linkDown",
    "linkUp",
    "authenticationFailure",
    "egpNeighborLoss",
];

/// Columns and scalars by name.
const VARIABLES: &[(&[u32], &str)] = &[
    (&[1, 3, 6, 1, 2, 1, 1, 1], "sysDescr"),
    (&[1, 3, 6, 1, 2, 1, 1, 5], "sysName"),
    (&[1, 3, 6, 1, 2, 1, 1, 6], "sysLocation"),
    (&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1], "ifIndex"),
    (&[1, 3, 6, 1, 2, 1, 2, 2, 1, 2], "ifDescr"),
    (&[1, 3, 6, 1, 2, 1, 2, 2, 1, 3], "ifType"),
    (&[1, 3, 6, 1, 2, 1, 2, 2, 1, 7], "ifAdminStatus"),
    (&[1, 3, 6, 1, 2, 1, 2, 2, 1, 8], "ifOperStatus"),
    (&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1], "ifName"),
    (&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18], "ifAlias"),
    (&[1, 3, 6, 1, 2, 1, 15, 3, 1, 2], "bgpPeerState"),
    (&[1, 3, 6, 1, 2, 1, 15, 3, 1, 7], "bgpPeerRemoteAddr"),
    (&[1, 3, 6, 1, 2, 1, 15, 3, 1, 14], "bgpPeerLastError"),
    (&[1, 3, 6, 1, 2, 1, 14, 1, 1], "ospfRouterId"),
    (&[1, 3, 6, 1, 2, 1, 14, 10, 1, 1], "ospfNbrIpAddr"),
    (&[1, 3, 6, 1, 2, 1, 14, 10, 1, 3], "ospfNbrRtrId"),
    (&[1, 3, 6, 1, 2, 1, 14, 10, 1, 6], "ospfNbrState"),
    (&[1, 3, 6, 1, 2, 1, 14, 7, 1, 1], "ospfIfIpAddress"),
    (&[1, 3, 6, 1, 2, 1, 14, 7, 1, 12], "ospfIfState"),
    (&[1, 3, 6, 1, 2, 1, 17, 2, 5], "dot1dStpDesignatedRoot"),
    (&[1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 7], "entPhysicalName"),
    (&[1, 3, 6, 1, 6, 3, 1, 1, 4, 3], "snmpTrapEnterprise"),
    (&[1, 3, 6, 1, 6, 3, 18, 1, 4], "snmpTrapCommunity"),
];

/// Words for numbers.
const WORDS: &[(&str, &[&str])] = &[
    ("ifAdminStatus", &["up", "down", "testing"]),
    (
        "ifOperStatus",
        &[
            "up",
            "down",
            "testing",
            "unknown",
            "dormant",
            "notPresent",
            "lowerLayerDown",
        ],
    ),
    (
        "bgpPeerState",
        &[
            "idle",
            "connect",
            "active",
            "opensent",
            "openconfirm",
            "established",
        ],
    ),
    (
        "ospfNbrState",
        &[
            "down",
            "attempt",
            "init",
            "twoWay",
            "exchangeStart",
            "exchange",
            "loading",
            "full",
        ],
    ),
];

/// A trap's name; its numbers when it has none.
pub(super) fn trap(oid: &Oid) -> String {
    if let Some([number]) = oid.under(&SNMP_TRAPS)
        && let Some(name) = usize::try_from(*number)
            .ok()
            .and_then(|number| GENERIC.get(number.checked_sub(1)?))
    {
        return (*name).to_owned();
    }
    let known = TRAPS.iter().find(|(known, _)| oid.ids() == *known);
    // RFC 3584 puts a zero before the last number, which some MIBs already have.
    let without_zero = || match oid.ids().split_last_chunk::<2>() {
        Some((front, [0, last])) => TRAPS
            .iter()
            .find(|(known, _)| known.split_last() == Some((last, front))),
        _ => None,
    };
    known
        .or_else(without_zero)
        .map_or_else(|| oid.to_string(), |(_, name)| (*name).to_owned())
}

/// Whether a word names a trap that has a name here.
pub(super) fn is_trap(word: &str) -> bool {
    GENERIC.contains(&word) || TRAPS.iter().any(|(_, name)| *name == word)
}

/// The name of the trap that this one says is over.
pub(super) fn ends(name: &str) -> Option<&'static str> {
    ENDS.iter()
        .find(|(end, _)| *end == name)
        .map(|(_, begun)| *begun)
}

/// A variable's name, and the index behind it: `ifOperStatus`, `[3]`.
pub(super) fn variable(oid: &Oid) -> (String, Vec<u32>) {
    let known = VARIABLES
        .iter()
        .find_map(|(prefix, name)| Some((*name, oid.under(prefix)?)));
    match known {
        Some((name, index)) => (name.to_owned(), index.to_vec()),
        None => (oid.to_string(), Vec::new()),
    }
}

/// A value as people read it.
pub(super) fn value(name: &str, value: &Value) -> String {
    match value {
        Value::Integer(number) => {
            let words = WORDS.iter().find(|(known, _)| *known == name);
            let place = usize::try_from(*number).ok().and_then(|n| n.checked_sub(1));
            let word = words
                .zip(place)
                .and_then(|((_, words), place)| words.get(place));
            word.map_or_else(|| number.to_string(), |word| format!("{word}({number})"))
        }
        Value::Unsigned(number) => number.to_string(),
        Value::Ticks(ticks) => format!("{}.{:02} s", ticks / 100, ticks % 100),
        Value::Octets(bytes) => octets(bytes),
        Value::Oid(oid) => oid.to_string(),
        Value::Address(address) => address.to_string(),
        Value::None => "-".to_owned(),
    }
}

/// Text where it is text, else its bytes.
fn octets(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes);
    let shown = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    if let Some(text) = text.ok().filter(shown) {
        return inert(text.trim_end_matches(['\r', '\n']).as_bytes());
    }
    let pairs: Vec<String> = bytes.iter().take(64).map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_traps_have_names() {
        for (ids, name) in [
            (&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3][..], "linkDown"),
            (&[1, 3, 6, 1, 6, 3, 1, 1, 5, 7], "1.3.6.1.6.3.1.1.5.7"),
            (&[1, 3, 6, 1, 2, 1, 15, 7, 2], "bgpBackwardTransition"),
            (&[1, 3, 6, 1, 2, 1, 15, 7, 0, 2], "bgpBackwardTransition"),
            (&[1, 3, 6, 1, 2, 1, 17, 0, 2], "topologyChange"),
            (&[1, 3, 6, 1, 4, 1, 99999, 0, 1], "1.3.6.1.4.1.99999.0.1"),
        ] {
            assert_eq!(trap(&Oid::new(ids)), name);
        }
        assert_eq!(ends("linkUp"), Some("linkDown"));
        assert!(is_trap("newRoot") && !is_trap("newroot"));
    }

    #[test]
    fn values_are_readable_and_inert() {
        assert_eq!(value("ifOperStatus", &Value::Integer(2)), "down(2)");
        assert_eq!(value("ifOperStatus", &Value::Integer(-9)), "-9");
        assert_eq!(value("x", &Value::Octets(b"Gi0/1".to_vec())), "Gi0/1");
        assert_eq!(
            value("x", &Value::Octets(b"\x1b[31m".to_vec())),
            "1b:5b:33:31:6d"
        );
    }
}
