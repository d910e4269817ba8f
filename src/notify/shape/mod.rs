//! From news to what a receiver takes: one file per shape, all of them pure.

pub(super) mod json;
pub(super) mod mail;
mod mattermost;
mod slack;
pub(super) mod syslog;
mod teams;

use super::config::{Language, NotifyKind};
use super::event::{About, Event};

/// What all messages of a target have in common.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) language: Language,
    base_url: Option<String>,
    /// This machine's name.
    pub(super) host: String,
}

impl Look {
    pub(super) fn new(language: Language, base_url: Option<&str>) -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || ".-_".contains(c) {
                c
            } else {
                '-'
            }
        };
        let host: String = host.chars().take(255).map(plain).collect();
        Self {
            language,
            base_url: base_url.map(|url| url.trim_end_matches('/').to_owned()),
            host: if host.is_empty() {
                "localhost".to_owned()
            } else {
                host
            },
        }
    }

    /// The page of an incident, or the first page.
    pub(super) fn link(&self, about: Option<&About>) -> Option<String> {
        let base = self.base_url.as_ref()?;
        Some(match about {
            Some(about) => format!("{base}/#/incidents/{}", about.id),
            None => format!("{base}/"),
        })
    }

    #[cfg(test)]
    pub(super) fn sample(language: Language) -> Self {
        Self {
            host: "tap-1".to_owned(),
            ..Self::new(language, Some("https://tap.test/"))
        }
    }
}

/// The body that a posted kind takes.
pub(super) fn body(kind: NotifyKind, events: &[Event], look: &Look) -> Vec<u8> {
    let body = match kind {
        NotifyKind::Slack => slack::body(events, look),
        NotifyKind::Teams => teams::body(events, look),
        NotifyKind::Mattermost => mattermost::body(events, look),
        _ => json::body(events, look),
    };
    body.to_string().into_bytes()
}

/// The identity of a message: that of its news, or of the first and last that it sums up.
pub(super) fn id(events: &[Event]) -> String {
    match events {
        [] => String::new(),
        [one] => one.id.clone(),
        [first, .., last] => format!("{}..{}", first.id, last.id),
    }
}
