//! `[[probe]]` of the configuration.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU8;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dns::Question;
use super::route::{interface_index, is_interface_name};
use super::stamp::STAMP_BYTES;

/// The shortest interval: a probe is no load test.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval and timeout.
const SPAN_MAX: Duration = Duration::from_hours(1);
/// Probes of one target that may be under way at once.
const UNDERWAY_MAX: u32 = 100;
/// The longest memory, in probes.
const OF_MAX: usize = 1000;

/// The most payload of an echo: what a datagram holds with all its headers.
const SIZE_MAX: u16 = 65_000;
/// The payload of the classic ping.
const SIZE_DEFAULT: u16 = 56;
/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// ICMP or ICMPv6 echo.
    #[default]
    Icmp,
    /// A TCP connection, closed again at once.
    Tcp,
    /// A DNS query over UDP.
    Dns,
}

/// One `[[probe]]`: an echo, a connection or a query at an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Its name.
    pub name: String,
    /// An address, a host name, or `gateway` for the next hop of the default route.
    pub target: String,
    /// What is sent.
    #[serde(default)]
    pub kind: ProbeKind,
    /// For `tcp` the port to connect to; for `dns` the server's, 53 unless given.
    #[serde(default)]
    pub port: Option<u16>,
    /// For `dns` the name asked for.
    #[serde(default)]
    pub query: Option<String>,
    /// For `dns` the record type asked for, `A` unless given.
    #[serde(default)]
    pub record: Option<String>,
    /// The interface probes leave by; whatever the routes say unless given.
    #[serde(default)]
    pub interface: Option<String>,
    /// The address probes come from; the interface's own unless given.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// For `icmp` the payload in bytes.
    #[serde(default)]
    pub size: Option<u16>,
    /// For `icmp`: routers must not fragment it.
    #[serde(default)]
    pub df: bool,
    /// The type of service (IPv6: traffic class) octet.
    #[serde(default)]
    pub tos: Option<u8>,
    /// The hop limit.
    #[serde(default)]
    pub ttl: Option<NonZeroU8>,
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
    /// Whether early signs are looked for.
    #[serde(default = "yes")]
    pub precursor: bool,
    /// What the incident is about; `probe NAME` unless given.
    #[serde(default)]
    pub subject: Option<String>,
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn yes() -> bool {
    true
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
        if let Err((key, why)) = self.check_kind() {
            return error(key, &why);
        }
        if let Some(interface) = &self.interface
            && !is_interface_name(interface)
        {
            return error(
                "interface",
                &format!("{interface:?} is no interface's name"),
            );
        }
        let target = match parse_target(&self.target) {
            Ok(target) => target,
            Err(why) => return error("target", &format!("{:?} {why}", self.target)),
        };
        if let (Target::Address(address), Some(source)) = (&target, self.source)
            && address.is_ipv4() != source.is_ipv4()
        {
            return error("source", "is of another family than target");
        }
        Ok(target)
    }

    /// Whether the keys fit the kind; else the key and what is wrong with it.
    fn check_kind(&self) -> Result<(), (&'static str, String)> {
        let unused = |key, given: bool, only: &str| {
            let why = format!("is for kind = \"{only}\"");
            if given { Err((key, why)) } else { Ok(()) }
        };
        let kind = self.kind;
        unused(
            "size",
            self.size.is_some() && kind != ProbeKind::Icmp,
            "icmp",
        )?;
        unused("df", self.df && kind != ProbeKind::Icmp, "icmp")?;
        unused(
            "query",
            self.query.is_some() && kind != ProbeKind::Dns,
            "dns",
        )?;
        unused(
            "record",
            self.record.is_some() && kind != ProbeKind::Dns,
            "dns",
        )?;
        unused(
            "port",
            self.port.is_some() && kind == ProbeKind::Icmp,
            "tcp\" or \"dns",
        )?;
        match kind {
            ProbeKind::Icmp => {
                let size = usize::from(self.payload_bytes());
                if !(STAMP_BYTES..=usize::from(SIZE_MAX)).contains(&size) {
                    return Err(("size", format!("use {STAMP_BYTES} to {SIZE_MAX} bytes")));
                }
            }
            ProbeKind::Tcp if self.port.is_none_or(|port| port == 0) => {
                let why = "is missing: name the port to connect to, 1 to 65535";
                return Err(("port", why.to_owned()));
            }
            ProbeKind::Tcp => {}
            ProbeKind::Dns => {
                if self.port == Some(0) {
                    return Err(("port", "use a number from 1 to 65535".to_owned()));
                }
                if self.query.is_none() {
                    let why = "is missing: name what to ask for, such as \"example.com\"";
                    return Err(("query", why.to_owned()));
                }
                self.question()?;
            }
        }
        Ok(())
    }

    /// The port probes go to; 0 for an echo, which has none.
    pub fn port(&self) -> u16 {
        match self.kind {
            ProbeKind::Icmp => 0,
            ProbeKind::Tcp => self.port.unwrap_or(0),
            ProbeKind::Dns => self.port.unwrap_or(DNS_PORT),
        }
    }

    /// The payload of an echo in bytes.
    pub fn payload_bytes(&self) -> u16 {
        self.size.unwrap_or(SIZE_DEFAULT)
    }

    /// What a DNS probe asks; else the key and what is wrong with it.
    pub fn question(&self) -> Result<Question, (&'static str, String)> {
        let record = self.record.as_deref().unwrap_or("A");
        let known = Question::new(".", record);
        known.map_err(|why| ("record", why))?;
        let name = self.query.as_deref().unwrap_or_default();
        Question::new(name, record).map_err(|why| ("query", why))
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
        assert!(broken(|p| p.size = Some(47)).contains("size: use 48"));
        assert!(broken(|p| p.port = Some(7)).contains("port: is for"));
        assert!(broken(|p| p.query = Some("a".to_owned())).contains("query: is for"));
        assert!(broken(|p| p.kind = ProbeKind::Tcp).contains("port: is missing"));
        assert!(broken(|p| p.kind = ProbeKind::Dns).contains("query: is missing"));
        assert!(broken(|p| p.interface = Some("../x".to_owned())).contains("interface"));
        assert!(broken(|p| p.source = "::1".parse().ok()).contains("source: is of another"));
        let mut dns = config("203.0.113.1");
        dns.kind = ProbeKind::Dns;
        dns.query = Some("example.com".to_owned());
        assert!(dns.validate().is_ok());
        assert_eq!(dns.port(), 53);
        dns.df = true;
        assert!(
            dns.validate()
                .unwrap_err()
                .to_string()
                .contains("df: is for")
        );
        dns.df = false;
        dns.record = Some("ANY".to_owned());
        assert!(dns.validate().unwrap_err().to_string().contains("record: "));
    }
}
