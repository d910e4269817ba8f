//! Delivering: one attempt, and what came of it. Repeating is decided elsewhere.

pub(super) mod connect;
pub(super) mod mail;
pub(super) mod post;
pub(super) mod syslog;

use std::time::Duration;

use super::event::foreign;

/// The longest error told, in bytes.
const WHY_BYTES_MAX: usize = 400;

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It may work later.
    #[error("{why}")]
    Later {
        /// What happened.
        why: String,
        /// How long the receiver asked to be left alone.
        after: Option<Duration>,
    },
    /// The receiver will never take it.
    #[error("{why}")]
    Never {
        /// What it said.
        why: String,
    },
}

impl Failure {
    pub(super) fn later(why: impl std::fmt::Display) -> Self {
        Self::Later {
            why: foreign(&why.to_string(), WHY_BYTES_MAX),
            after: None,
        }
    }

    pub(super) fn never(why: impl std::fmt::Display) -> Self {
        Self::Never {
            why: foreign(&why.to_string(), WHY_BYTES_MAX),
        }
    }

    pub(super) const fn after(&self) -> Option<Duration> {
        match self {
            Self::Later { after, .. } => *after,
            Self::Never { .. } => None,
        }
    }

    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Never { .. })
    }
}
