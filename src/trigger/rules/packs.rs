//! The rule packs that come with the program: `rules/*.toml` of the repository, by name.

use serde::{Deserialize, Serialize};

use super::RuleError;
use super::config::{Matching, RuleConfig};

/// The packs.
const PACKS: [(&str, &str); 8] = [
    (
        "interface-down",
        include_str!("../../../rules/interface-down.toml"),
    ),
    (
        "spanning-tree",
        include_str!("../../../rules/spanning-tree.toml"),
    ),
    ("bgp-ospf", include_str!("../../../rules/bgp-ospf.toml")),
    (
        "duplicate-ip",
        include_str!("../../../rules/duplicate-ip.toml"),
    ),
    (
        "dhcp-exhausted",
        include_str!("../../../rules/dhcp-exhausted.toml"),
    ),
    (
        "disk-errors",
        include_str!("../../../rules/disk-errors.toml"),
    ),
    ("oom", include_str!("../../../rules/oom.toml")),
    ("http-5xx", include_str!("../../../rules/http-5xx.toml")),
];

/// `[rules]`: what counts beside the `[[rule]]`s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// The packs whose rules come after those of the configuration.
    pub packs: Vec<String>,
    /// Which of several rules that match a line decide.
    #[serde(rename = "match")]
    pub matching: Matching,
}

/// A file of rules.
#[derive(Deserialize)]
struct Pack {
    rule: Vec<RuleConfig>,
}

impl RulesConfig {
    /// The rules of the packs, in their order.
    pub fn rules(&self) -> Result<Vec<RuleConfig>, RuleError> {
        let packs: Result<Vec<_>, _> = self.packs.iter().map(|name| pack(name)).collect();
        Ok(packs?.into_iter().flatten().collect())
    }
}

/// The names of the packs.
pub fn pack_names() -> [&'static str; PACKS.len()] {
    PACKS.map(|(name, _)| name)
}

/// The file of a pack, with samples of the lines it is for; none if there is no such pack.
pub fn pack_text(name: &str) -> Option<&'static str> {
    let found = PACKS.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}

fn pack(name: &str) -> Result<Vec<RuleConfig>, RuleError> {
    let unknown = || RuleError::NoSuchPack(name.to_owned(), pack_names().join(", "));
    let text = pack_text(name).ok_or_else(unknown)?;
    let pack: Pack = toml::from_str(text)
        .map_err(|error| RuleError::NoSuchPack(name.to_owned(), error.to_string()))?;
    Ok(pack.rule)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::time::Timestamp;
    use crate::trigger::Kind;
    use crate::trigger::rules::{Line, Rules};
    use crate::trigger::syslog::Message;

    /// The subjects of what fires when `line` comes `times` times.
    fn subjects(rules: &Rules, line: &str, times: usize) -> Vec<String> {
        let now = Timestamp::now();
        let message = Message::parse(line.as_bytes(), now);
        let offered = Line {
            kind: Kind::Syslog,
            source: "udp",
            file: None,
            bytes: message.line,
            host: "sw1",
            severity: message.severity,
            facility: message.facility,
        };
        let fired = (0..times).flat_map(|_| rules.apply(&offered, now, now));
        fired.map(|trigger| trigger.subject).collect()
    }

    /// Whether any rule of `rules` fires when `line` comes `times` times.
    fn fires(rules: &Rules, line: &str, times: usize) -> bool {
        (0..times).any(|_| !subjects(rules, line, 1).is_empty())
    }

    /// The samples stand in the packs as comments: `#+ ` fires, `#+10 ` when it comes so often,
    /// `#- ` does not.
    #[test]
    fn every_pack_fires_on_its_samples_and_on_no_others() {
        for (name, text) in PACKS {
            let rules = Rules::new(&pack(name).unwrap()).unwrap();
            let mut samples = 0;
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("#+") {
                    let (times, line) = rest.split_once(' ').unwrap();
                    let times = times.parse().unwrap_or(1);
                    assert!(fires(&rules, line, times), "{name}: {line}");
                    assert!(
                        times == 1 || !fires(&rules, line, times - 1),
                        "{name}: {line}"
                    );
                    samples += 1;
                } else if let Some(line) = line.strip_prefix("#- ") {
                    assert!(!fires(&rules, line, 20), "{name}: {line}");
                }
            }
            assert!(samples > 0, "{name} has no samples");
        }
        let all = RulesConfig {
            packs: PACKS.map(|(name, _)| name.to_owned()).to_vec(),
            ..RulesConfig::default()
        };
        let rules = Rules::new(&all.rules().unwrap()).unwrap();
        for line in [
            "<30>sshd[1]: Accepted publickey for root from 192.0.2.1 port 5000 ssh2",
            "<30>systemd[1]: Started Daily apt download activities.",
            "<134>fw1: session allowed 10.0.0.1:5000 -> 192.0.2.1:443 policy 5",
            "<78>CRON[1]: (root) CMD (run-parts /etc/cron.hourly)",
        ] {
            assert!(!fires(&rules, line, 20), "{line}");
        }
    }

    /// Several lines tell of one fault, and devices of several makers are in one network: whoever
    /// tells of a neighbour or an interface, it is one subject.
    #[test]
    fn one_neighbour_is_one_subject_in_every_dialect() {
        let of = |name| {
            let rules = Rules::new(&pack(name).unwrap()).unwrap();
            let samples = pack_text(name).unwrap().lines();
            let samples = samples.filter_map(|line| line.strip_prefix("#+ "));
            let all = samples.flat_map(|line| subjects(&rules, line, 1));
            all.collect::<BTreeSet<String>>()
        };
        let neighbours = [
            "sw1 BGP 10.0.0.2",
            "sw1 BGP swp1",
            "sw1 OSPF 10.0.0.3",
            "sw1 OSPF 10.1.1.1",
            "sw1 OSPF Ethernet1/1",
        ];
        assert_eq!(
            of("bgp-ospf"),
            BTreeSet::from(neighbours.map(str::to_owned))
        );
        let interfaces = [
            "sw1 Ethernet1/1 down",
            "sw1 Ethernet47 down",
            "sw1 GigabitEthernet0/0/0/1 down",
            "sw1 GigabitEthernet0/1 down",
            "sw1 LAN2: PORT1 down",
            "sw1 eno1 down",
            "sw1 ens1f0np0 down",
            "sw1 eth0 down",
            "sw1 eth1 down",
            "sw1 ge-0/0/1 down",
            "sw1 wan1 down",
            "sw1 xe-0/0/1 down",
        ];
        assert_eq!(
            of("interface-down"),
            BTreeSet::from(interfaces.map(str::to_owned))
        );
    }

    #[test]
    fn an_unknown_pack_is_named_with_those_there_are() {
        let error = pack("interfaces").unwrap_err().to_string();
        assert!(
            error.contains("interfaces") && error.contains("interface-down"),
            "{error}"
        );
    }
}
