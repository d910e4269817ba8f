//! What a call says, whoever sent it: between the senders' shapes and our triggers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::redact::{blanked, blanked_fields};
use super::{BodyError, bounded_fields};
use crate::time::Timestamp;
use crate::trigger::status::{Count, SourceHandle};
use crate::trigger::text::{address_of, inert};
use crate::trigger::{Kind, Resolution, Trigger, cut};

/// The longest filter and key kept, in bytes.
const WORD_BYTES_MAX: usize = 1024;
/// Addresses put into a suggested filter.
const ADDRESSES_MAX: usize = 8;

/// One thing that a call says. All text in it is foreign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether it is over, rather than begun or still going on.
    pub(super) over: bool,
    /// What it is about; the hook's name when empty.
    pub(super) subject: String,
    /// The message; the subject when empty.
    pub(super) text: String,
    /// When it happened, by the sender's clock.
    pub(super) at: Option<Timestamp>,
    /// The sender's own identity of it.
    pub(super) key: Option<String>,
    /// More that the sender says.
    pub(super) fields: BTreeMap<String, String>,
    /// Words that may name the host it is about.
    pub(super) hosts: Vec<String>,
    /// A pcap-filter(7) expression.
    pub(super) filter: Option<String>,
    /// Overrides of the window.
    pub(super) before: Option<Duration>,
    pub(super) after: Option<Duration>,
}

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To freeze.
    Trigger(Box<Trigger>),
    /// To end what it froze before.
    Resolution(Box<Resolution>),
}

impl Report {
    /// The event, made inert and bounded; `None` when its time is refused. An event without a time
    /// is as old as calls of the hook usually are.
    pub(super) fn event(self, handle: &SourceHandle, received: Timestamp) -> Option<Event> {
        let hook = handle.name();
        let subject = match shown(&self.subject) {
            subject if subject.is_empty() => hook.to_owned(),
            subject => subject,
        };
        let text = match shown(&self.text) {
            text if text.is_empty() => subject.clone(),
            text => text,
        };
        let time = handle.file(self.at, received);
        // Two senders may both count from 1.
        let key = self.key.as_deref().and_then(word);
        let key = key.map(|key| format!("{hook}/{key}"));
        if self.over {
            let mut over = Resolution::new(Kind::Webhook, hook, &subject, &text, time.at, received);
            over.dedup_key = key;
            return Some(Event::Resolution(Box::new(over)));
        }
        if time.refused {
            handle.count(Count::Refused);
            return None;
        }
        let mut trigger = Trigger::new(Kind::Webhook, hook, &subject, &text, time.at, received);
        trigger.before = self.before;
        trigger.after = self.after;
        trigger.dedup_key = key;
        let filter = self.filter.as_deref().and_then(word);
        trigger.suggested_filter = filter.or_else(|| suggest(&self.hosts));
        trigger.fields = bounded_fields(&blanked_fields(self.fields));
        time.mark(&mut trigger);
        Some(Event::Trigger(Box::new(trigger)))
    }

    /// A report that says nothing is refused.
    pub(super) fn or_empty(self, key: &'static str, why: &str) -> Result<Self, BodyError> {
        if self.subject.trim().is_empty() && self.text.trim().is_empty() {
            let why = why.to_owned();
            return Err(BodyError::Value { key, why });
        }
        Ok(self)
    }
}

/// Foreign text without secrets and active characters.
fn shown(text: &str) -> String {
    inert(blanked(text.trim()).as_bytes())
}

/// Text made inert and bounded; `None` when nothing is left.
fn word(text: &str) -> Option<String> {
    let text = inert(text.trim().as_bytes());
    let text = cut(&text, WORD_BYTES_MAX);
    (!text.is_empty()).then(|| text.to_owned())
}

/// A filter for the addresses among `hosts`.
fn suggest(hosts: &[String]) -> Option<String> {
    let addresses: BTreeSet<IpAddr> = hosts
        .iter()
        .filter_map(|host| address_of(host))
        .take(ADDRESSES_MAX)
        .collect();
    let hosts: Vec<String> = addresses.iter().map(|a| format!("host {a}")).collect();
    (!hosts.is_empty()).then(|| hosts.join(" or "))
}
