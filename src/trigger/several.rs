//! Values of which there may be several in the configuration.

use serde::{Deserialize, Serialize};

/// One value or several: secrets are rotated by having two for a while.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Several<T> {
    /// One.
    One(T),
    /// Any of them.
    Any(Vec<T>),
}

impl<T> std::fmt::Debug for Several<T> {
    /// How many, not which: they may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.as_slice().len())
    }
}

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

impl<T> From<T> for Several<T> {
    fn from(one: T) -> Self {
        Self::One(one)
    }
}

impl<T> Several<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Any(any) => any,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}
