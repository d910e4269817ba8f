//! `[[probe]]` of the configuration.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::route::interface_index;

/// The shortest interval: a probe is no load test.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval and timeout.
const SPAN_MAX: Duration = Duration::from_hours(1);
/// Probes of one target that may be under way at once.
const UNDERWAY_MAX: u32 = 100;
/// The longest memory, in probes.
const OF_MAX: usize = 1000;

/// One `[[probe]]`: an ICMP echo at an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Its name.
    pub name: String,
    /// An address, a host name, or `gateway` for the next hop of the default route.
    pub target: String,
    /// From one probe to the next.
    #[serde(default = "one_second", with = "crate::time::span")]
    pub interval: Duration,
    /// A reply later than this is a loss.
    #[serde(default = "one_second", with = "crate::time::span")]
    pub timeout: Duration,
    /// So many probes lost ...
    #[serde(default = "three")]
    pub lost: usize,
    /// ... of the last so many are a fault.
    #[serde(default = "five")]
    pub of: usize,
    /// What the incident is about; `probe NAME` unless given.
    #[serde(default)]
    pub subject: Option<String>,
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn three() -> usize {
    3
}

const fn five() -> usize {
    5
}

/// Why a probe cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A probe without a name.
    #[error("[[probe]] target = {0:?}: name is empty")]
    Unnamed(String),
    /// Two probes of one name.
    #[error("[[probe]] name = {0:?} is given twice")]
    Duplicate(String),
    /// A value makes no sense.
    #[error("[[probe]] {name}: {key}: {why}")]
    Value {
        /// The probe.
        name: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Where probes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Always there.
    Address(SocketAddr),
    /// To what the name resolves to.
    Name(String),
    /// To the next hop of the default route.
    Gateway,
}

impl ProbeConfig {
    /// Checks every value; the target as a value.
    pub fn validate(&self) -> Result<Target, ProbeError> {
        if self.name.trim().is_empty() {
            return Err(ProbeError::Unnamed(self.target.clone()));
        }
        let error = |key, why: &str| {
            Err(ProbeError::Value {
                name: self.name.clone(),
                key,
                why: why.to_owned(),
            })
        };
        if self.interval < INTERVAL_MIN || self.interval > SPAN_MAX {
            return error("interval", "use a span from 100ms to 1h");
        }
        let most = self.interval.saturating_mul(UNDERWAY_MAX).min(SPAN_MAX);
        if self.timeout.is_zero() || self.timeout > most {
            return error("timeout", "use more than 0 and at most 100 intervals or 1h");
        }
        if self.of == 0 || self.of > OF_MAX {
            return error("of", "use a number from 1 to 1000");
        }
        if self.lost == 0 || self.lost > self.of {
            return error("lost", "use a number from 1 to that of `of`");
        }
        match parse_target(&self.target) {
            Ok(target) => Ok(target),
            Err(why) => error("target", &format!("{:?} {why}", self.target)),
        }
    }
}

fn parse_target(text: &str) -> Result<Target, &'static str> {
    if text == "gateway" {
        return Ok(Target::Gateway);
    }
    if let Some((address, interface)) = text.split_once('%') {
        let address = address
            .parse()
            .map_err(|_| "is not an IPv6 address with a zone")?;
        let scope = interface_index(interface).ok_or("names no interface of this machine")?;
        return Ok(Target::Address(
            SocketAddrV6::new(address, 0, 0, scope).into(),
        ));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let broadcast = address == IpAddr::from([255; 4]);
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err("is not the address of one host");
        }
        return Ok(Target::Address(SocketAddr::new(address, 0)));
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // Only digits and dots is a mistyped address, not a name.
    let numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if text.is_empty() || text.len() > 253 || !text.chars().all(letters) || numeric {
        return Err("is neither an address nor a host name nor \"gateway\"");
    }
    Ok(Target::Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(target: &str) -> ProbeConfig {
        toml::from_str(&format!("name = \"edge\"\ntarget = {target:?}")).unwrap()
    }

    #[test]
    fn defaults_and_targets() {
        let probe = config("203.0.113.1");
        assert_eq!((probe.lost, probe.of), (3, 5));
        assert_eq!(probe.interval, Duration::from_secs(1));
        assert_eq!(
            probe.validate(),
            Ok(Target::Address("203.0.113.1:0".parse().unwrap()))
        );
        assert!(matches!(
            config("2001:db8::1").validate(),
            Ok(Target::Address(_))
        ));
        assert!(matches!(
            config("::1%lo").validate(),
            Ok(Target::Address(_))
        ));
        assert_eq!(config("gateway").validate(), Ok(Target::Gateway));
        assert_eq!(
            config("router.example").validate(),
            Ok(Target::Name("router.example".to_owned()))
        );
    }

    #[test]
    fn mistakes_name_the_key() {
        for target in [
            "",
            "203.0.113",
            "203.0.113.256",
            "a b",
            "http://x/",
            "224.0.0.1",
            "::",
            "fe80::1%none",
        ] {
            let error = config(target).validate().unwrap_err().to_string();
            assert!(error.contains("edge: target"), "{error}");
        }
        let broken = |change: fn(&mut ProbeConfig)| {
            let mut probe = config("203.0.113.1");
            change(&mut probe);
            probe.validate().unwrap_err().to_string()
        };
        assert!(broken(|p| p.interval = Duration::from_millis(1)).contains("interval"));
        assert!(broken(|p| p.timeout = Duration::ZERO).contains("timeout"));
        assert!(broken(|p| p.timeout = Duration::from_mins(2)).contains("timeout"));
        assert!(broken(|p| p.lost = 6).contains("lost"));
        assert!(broken(|p| p.lost = 0).contains("lost"));
        assert!(broken(|p| p.of = 0).contains("of:"));
        assert!(broken(|p| p.name = " ".to_owned()).contains("name is empty"));
    }
}
