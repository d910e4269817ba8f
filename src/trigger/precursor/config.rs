//! `[precursor]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest and the longest warm-up.
const WARM_UP: (Duration, Duration) = (Duration::from_mins(10), Duration::from_hours(4 * 168));

/// `[precursor]`: early signs in what probes show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrecursorConfig {
    /// How little is a sign.
    pub sensitivity: Sensitivity,
    /// A target is watched for so long before it can give a sign.
    #[serde(with = "crate::time::span")]
    pub warm_up: Duration,
}

/// How little is a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Twice the usual round trip; for paths that are never quiet.
    Low,
    /// Half as much again.
    #[default]
    Medium,
    /// A third more; for leased lines.
    High,
}

/// Why early signs cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrecursorError {
    /// A value makes no sense.
    #[error("precursor.{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it and what to write instead.
        why: &'static str,
    },
}

impl Default for PrecursorConfig {
    fn default() -> Self {
        Self {
            sensitivity: Sensitivity::default(),
            warm_up: Duration::from_hours(6),
        }
    }
}

impl PrecursorConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<(), PrecursorError> {
        if self.warm_up < WARM_UP.0 || self.warm_up > WARM_UP.1 {
            return Err(PrecursorError::Value {
                key: "warm_up",
                why: "use a span from 10m to 28days: less teaches nothing",
            });
        }
        Ok(())
    }
}

impl Sensitivity {
    /// The median round trip must be so many times the usual.
    pub const fn level_ratio(self) -> f64 {
        match self {
            Self::Low => 2.0,
            Self::Medium => 1.5,
            Self::High => 1.3,
        }
    }

    /// The spread of round trips must be so many times the usual.
    pub const fn spread_ratio(self) -> f64 {
        match self {
            Self::Low => 5.0,
            Self::Medium => 3.5,
            Self::High => 2.5,
        }
    }

    /// The evidence in standard deviations that a change of round trips needs.
    pub const fn evidence(self) -> f64 {
        match self {
            Self::Low => 30.0,
            Self::Medium => 20.0,
            Self::High => 12.0,
        }
    }

    /// Signs of loss a week by chance alone.
    pub const fn chance_per_week(self) -> f64 {
        match self {
            Self::Low => 0.001,
            Self::Medium => 0.01,
            Self::High => 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_mistakes() {
        let config: PrecursorConfig = toml::from_str("").unwrap();
        assert_eq!(config, PrecursorConfig::default());
        config.validate().unwrap();
        let config: PrecursorConfig =
            toml::from_str("sensitivity = \"high\"\nwarm_up = \"1m\"").unwrap();
        assert_eq!(config.sensitivity, Sensitivity::High);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("precursor.warm_up: use a span"), "{error}");
        assert!(toml::from_str::<PrecursorConfig>("sensitivity = \"max\"").is_err());
        assert!(toml::from_str::<PrecursorConfig>("warmup = \"1h\"").is_err());
    }
}
