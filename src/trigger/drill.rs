//! Marks of drills: how a source knows that what it hears was sent by ourselves, to see whether
//! the way from it to sealed evidence is whole.
//!
//! A mark is unguessable, good for one source and once. A source that hears one makes a trigger of
//! [`Kind::Drill`] of it, whatever its rules say; any other text, also one that looks like a mark,
//! is ordinary.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Grade, Kind, Trigger};
use crate::time::Timestamp;

/// How every mark begins.
pub const MARK_PREFIX: &str = "wirewitness-drill-";
/// Hexadecimal digits behind it.
const DIGITS: usize = 32;
/// The trigger field that holds the mark.
pub const MARK_FIELD: &str = "drill";
/// The trigger field that holds the kind of the source that was drilled.
pub const KIND_FIELD: &str = "source_kind";

/// What became of a mark: when it was heard, or why it cannot be sent.
pub type Heard = Result<Timestamp, String>;

/// The marks that are on their way. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// As many as there are: looked at for every line, so that without a drill a line costs nothing.
    count: AtomicUsize,
    outstanding: Mutex<HashMap<String, Outstanding>>,
}

#[derive(Debug)]
struct Outstanding {
    kind: Kind,
    source: String,
    before: Duration,
    after: Duration,
    /// Whether the thread that probes took it up.
    taken: bool,
    heard: oneshot::Sender<Heard>,
}

/// A mark that was issued; forgotten when this is dropped.
#[derive(Debug)]
pub struct Issued {
    /// The mark.
    pub mark: String,
    /// What becomes of it.
    pub heard: oneshot::Receiver<Heard>,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    marks: Marks,
    mark: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.marks.remove(&self.mark);
    }
}

impl Marks {
    /// A new mark for one source, whose incident keeps `before` and `after` around it. Fails
    /// without random numbers.
    pub fn issue(
        &self,
        kind: Kind,
        source: &str,
        (before, after): (Duration, Duration),
    ) -> Result<Issued, getrandom::Error> {
        let mut random = [0; DIGITS / 2];
        getrandom::fill(&mut random)?;
        let mark = format!("{MARK_PREFIX}{}", hex::encode(random));
        let (heard, news) = oneshot::channel();
        let outstanding = Outstanding {
            kind,
            source: source.to_owned(),
            before,
            after,
            taken: false,
            heard,
        };
        let mut marks = self.lock();
        marks.insert(mark.clone(), outstanding);
        self.shared.count.store(marks.len(), Ordering::Release);
        drop(marks);
        let place = Place {
            marks: self.clone(),
            mark: mark.clone(),
        };
        Ok(Issued {
            mark,
            heard: news,
            _place: place,
        })
    }

    /// The trigger of a mark among `bytes` that is on its way to this source; used up by that.
    pub fn hear(
        &self,
        kind: Kind,
        source: &str,
        bytes: &[u8],
        received: Timestamp,
    ) -> Option<Trigger> {
        if self.shared.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mark = self.find(kind, source, bytes)?;
        let outstanding = self.remove(&mark)?;
        let text = format!("drill: its mark came through {kind} {source}");
        let subject = format!("drill {source}");
        let mut trigger = Trigger::new(Kind::Drill, source, &subject, &text, received, received);
        // Kept as shortly, and as quietly.
        trigger.grade = Grade::Precursor;
        trigger.before = Some(outstanding.before);
        trigger.after = Some(outstanding.after);
        trigger.fields.insert(MARK_FIELD.to_owned(), mark);
        trigger
            .fields
            .insert(KIND_FIELD.to_owned(), kind.to_string());
        // Who waited for it may be gone.
        let _told = outstanding.heard.send(Ok(received));
        Some(trigger)
    }

    fn find(&self, kind: Kind, source: &str, bytes: &[u8]) -> Option<String> {
        let marks = self.lock();
        candidates(bytes)
            .find(|mark| {
                let known = marks.get(*mark);
                known.is_some_and(|one| one.kind == kind && one.source == source)
            })
            .map(str::to_owned)
    }

    /// The source of a mark cannot send it.
    pub fn fail(&self, mark: &str, why: &str) {
        if let Some(outstanding) = self.remove(mark) {
            let _told = outstanding.heard.send(Err(why.to_owned()));
        }
    }

    /// Marks that sources of `kind` are to send themselves, each once: the source and the mark.
    pub fn take(&self, kind: Kind) -> Vec<(String, String)> {
        if self.shared.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut marks = self.lock();
        let new = marks
            .iter_mut()
            .filter(|(_, one)| one.kind == kind && !one.taken);
        new.map(|(mark, one)| {
            one.taken = true;
            (one.source.clone(), mark.clone())
        })
        .collect()
    }

    fn remove(&self, mark: &str) -> Option<Outstanding> {
        let mut marks = self.lock();
        let removed = marks.remove(mark);
        self.shared.count.store(marks.len(), Ordering::Release);
        removed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Outstanding>> {
        let outstanding = &self.shared.outstanding;
        outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a listener on `address` is reached from this host.
pub fn reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Everything in `bytes` that has the shape of a mark.
fn candidates(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let prefix = MARK_PREFIX.as_bytes();
    bytes
        .windows(prefix.len() + DIGITS)
        .filter(|window| window.starts_with(prefix))
        .filter_map(|window| std::str::from_utf8(window).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

    fn at() -> Timestamp {
        Timestamp::from_ns(1_800_000_000_000_000_000)
    }

    #[test]
    fn a_mark_is_good_for_its_source_and_once() {
        let marks = Marks::default();
        let mut issued = marks.issue(Kind::Syslog, "udp://a", WINDOW).unwrap();
        let line = format!("<13>app: {MARK_PREFIX}{} {}", "0".repeat(32), issued.mark);
        let hear = |kind, source| marks.hear(kind, source, line.as_bytes(), at());
        assert_eq!(hear(Kind::Syslog, "udp://b"), None);
        assert_eq!(hear(Kind::Trap, "udp://a"), None);
        let trigger = hear(Kind::Syslog, "udp://a").unwrap();
        assert_eq!(
            (trigger.kind, trigger.grade),
            (Kind::Drill, Grade::Precursor)
        );
        assert_eq!(trigger.subject, "drill udp://a");
        assert_eq!(trigger.fields[MARK_FIELD], issued.mark);
        assert_eq!(
            (trigger.before, trigger.after),
            (Some(WINDOW.0), Some(WINDOW.1))
        );
        assert_eq!(issued.heard.try_recv().unwrap(), Ok(at()));
        assert_eq!(hear(Kind::Syslog, "udp://a"), None, "it is used up");
    }

    #[test]
    fn what_nobody_issued_is_ordinary() {
        let marks = Marks::default();
        let hear = |mark: &str| marks.hear(Kind::Syslog, "s", mark.as_bytes(), at());
        let issued = marks.issue(Kind::Syslog, "s", WINDOW).unwrap();
        for foreign in [
            format!("{MARK_PREFIX}{}", "a".repeat(32)),
            issued.mark.to_uppercase(),
            issued.mark[..issued.mark.len() - 1].to_owned(),
            MARK_PREFIX.to_owned(),
            String::new(),
        ] {
            assert_eq!(hear(&foreign), None, "{foreign}");
        }
        let mark = issued.mark.clone();
        drop(issued);
        assert_eq!(hear(&mark), None, "nobody waits for it any more");
    }

    #[test]
    fn a_probe_takes_its_mark_up_once() {
        let marks = Marks::default();
        let mut issued = marks.issue(Kind::Probe, "edge", WINDOW).unwrap();
        assert_eq!(marks.take(Kind::Syslog), []);
        let taken = [("edge".to_owned(), issued.mark.clone())];
        assert_eq!(marks.take(Kind::Probe), taken);
        assert_eq!(marks.take(Kind::Probe), []);
        marks.fail(&issued.mark, "no route");
        assert_eq!(issued.heard.try_recv().unwrap(), Err("no route".to_owned()));
    }
}
