//! `[drill]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::Daytime;
use crate::time::span;

/// The shortest time between two drills by the schedule.
const EVERY_MIN: Duration = Duration::from_mins(1);
/// The longest.
const EVERY_MAX: Duration = Duration::from_hours(31 * 24);
/// The most of packets that a drill keeps on either side.
const WINDOW_MAX: Duration = Duration::from_mins(5);
/// What a drill may take at most, behind its window.
const WITHIN_MAX: Duration = Duration::from_mins(10);

/// `[drill]`: whether the way from a trigger to sealed evidence is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillConfig {
    /// From one drill to the next; none by itself without it.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_span")]
    pub every: Option<Duration>,
    /// The time of day from which `every` counts, in this machine's zone.
    pub at: Daytime,
    /// The sources that are drilled by the schedule; all when empty.
    pub sources: Vec<String>,
    /// Where a datagram is sent that must be found among the frozen packets: an address beyond a
    /// recorded interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<SocketAddr>,
    /// Kept before a drill.
    #[serde(with = "span")]
    pub before: Duration,
    /// Kept after it.
    #[serde(with = "span")]
    pub after: Duration,
    /// A drill that is not through so long after its window has failed.
    #[serde(with = "span")]
    pub within: Duration,
    /// The incident of a drill goes by itself after this.
    #[serde(with = "span")]
    pub keep: Duration,
}

impl Default for DrillConfig {
    fn default() -> Self {
        Self {
            every: None,
            at: Daytime::default(),
            sources: Vec::new(),
            canary: None,
            before: Duration::from_secs(10),
            after: Duration::from_secs(2),
            within: Duration::from_secs(30),
            keep: Duration::from_hours(48),
        }
    }
}

impl DrillConfig {
    /// Checks every value; `known` are the names of the sources. The error is complete.
    pub fn check(&self, known: &[String]) -> Result<(), String> {
        if self
            .every
            .is_some_and(|every| !(EVERY_MIN..=EVERY_MAX).contains(&every))
        {
            return Err("drill.every: use a span from 1m to 31days".to_owned());
        }
        if let Some(unknown) = self.sources.iter().find(|name| !known.contains(name)) {
            let known = known.join(", ");
            return Err(format!(
                "drill.sources: there is no source {unknown:?}; there are {known}"
            ));
        }
        if self.before > WINDOW_MAX || self.after > WINDOW_MAX {
            return Err("drill.before, drill.after: use at most 5m: a drill is short".to_owned());
        }
        if self.before.is_zero() && self.after.is_zero() {
            return Err("drill: before and after are both 0; nothing would be kept".to_owned());
        }
        if self.within < Duration::from_secs(1) || self.within > WITHIN_MAX {
            return Err("drill.within: use a span from 1s to 10m".to_owned());
        }
        let canary = self
            .canary
            .filter(|to| to.ip().is_unspecified() || to.port() == 0);
        if let Some(canary) = canary {
            return Err(format!(
                "drill.canary = \"{canary}\": write an address and a port, such as \"192.0.2.1:9\""
            ));
        }
        Ok(())
    }
}

/// A span that need not be there.
mod optional_span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::span;

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => span::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Given(#[serde(with = "span")] Duration);
        Given::deserialize(deserializer).map(|Given(value)| Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let config: Result<DrillConfig, _> = toml::from_str(text);
        match config {
            Ok(config) => config
                .check(&["edge".to_owned(), "manual".to_owned()])
                .err()
                .unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn every_mistake_names_its_key() {
        let whole = "every = \"1day\"\nat = \"03:30\"\nsources = [\"edge\"]\ncanary = \"192.0.2.1:9\"\n\
            before = \"5s\"\nafter = \"1s\"\nwithin = \"20s\"\nkeep = \"12h\"";
        assert_eq!(check(whole), "");
        assert_eq!(check(""), "");
        for (text, expected) in [
            ("every = \"1s\"", "drill.every"),
            ("at = \"24:00\"", "\"24:00\" is not a time of day"),
            (
                "sources = [\"egde\"]",
                "there is no source \"egde\"; there are edge, manual",
            ),
            ("canary = \"192.0.2.1:0\"", "drill.canary"),
            ("before = \"6m\"", "drill.before"),
            ("before = \"0s\"\nafter = \"0s\"", "both 0"),
            ("within = \"1ms\"", "drill.within"),
        ] {
            assert!(check(text).contains(expected), "{text}: {}", check(text));
        }
    }
}
