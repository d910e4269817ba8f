//! Lines that should keep coming: who was heard of when, and what is news of it. Pure; bounded
//! whatever the lines say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Timestamp;
use crate::trigger::Kind;

/// Groups waited for at once. When there are more, one that is missing already is forgotten for a
/// new one; while none is, a new one is not waited for.
const GROUPS_MAX: usize = 4096;

/// What a rule with `absence` waits for.
#[derive(Debug)]
pub(super) struct Watch {
    span: Duration,
    /// Any line at all. It is what counts until a group is known.
    any: Heartbeat,
    groups: BTreeMap<String, Heartbeat>,
    /// Where the last line came from.
    kind: Option<Kind>,
}

/// What is news of a group, or of any line at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) group: Option<String>,
    pub(super) beat: Beat,
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// It is missing; the last came then.
    Missing(Timestamp),
    /// It is there again.
    Back,
    /// It was missing, and nobody waits for it any more.
    Excused,
}

/// When a line came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heartbeat {
    last: Timestamp,
    missing: bool,
}

impl Watch {
    /// Lines are waited for from `now` on, and missed when none came within `span`.
    pub(super) const fn new(span: Duration, now: Timestamp) -> Self {
        Self {
            span,
            any: Heartbeat::new(now),
            groups: BTreeMap::new(),
            kind: None,
        }
    }

    /// How long none may come.
    pub(super) const fn span(&self) -> Duration {
        self.span
    }

    /// Where the last line came from.
    pub(super) const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// A line came, of a group if the rule has groups.
    pub(super) fn beat(&mut self, group: Option<String>, kind: Kind, at: Timestamp) {
        self.kind = Some(kind);
        self.any.beat(at);
        let Some(group) = group else { return };
        if let Some(known) = self.groups.get_mut(&group) {
            known.beat(at);
        } else if self.has_room() {
            self.groups.insert(group, Heartbeat::new(at));
        }
    }

    fn has_room(&mut self) -> bool {
        if self.groups.len() < GROUPS_MAX {
            return true;
        }
        let missing = self.groups.iter().filter(|(_, one)| one.missing);
        let longest = missing.min_by_key(|(_, one)| one.last);
        let longest = longest.map(|(group, _)| group.clone());
        longest.is_some_and(|group| self.groups.remove(&group).is_some())
    }

    /// Nobody waits at `now`: the wait begins anew afterwards, and what is missing is news.
    pub(super) fn rest(&mut self, now: Timestamp) -> Vec<News> {
        let any = self.any.rest(now).then_some(None);
        let groups = self.groups.iter_mut();
        let groups = groups.filter_map(|(group, one)| one.rest(now).then(|| Some(group.clone())));
        let excused = any.into_iter().chain(groups);
        excused
            .map(|group| News {
                group,
                beat: Beat::Excused,
            })
            .collect()
    }

    /// What is news at `now`.
    pub(super) fn look(&mut self, now: Timestamp) -> Vec<News> {
        let any = if self.groups.is_empty() {
            self.any.look(now, self.span)
        } else {
            self.any.settle()
        };
        let any = any.map(|beat| News { group: None, beat });
        let groups = self.groups.iter_mut().filter_map(|(group, one)| {
            let beat = one.look(now, self.span)?;
            let group = Some(group.clone());
            Some(News { group, beat })
        });
        any.into_iter().chain(groups).collect()
    }
}

impl Heartbeat {
    const fn new(now: Timestamp) -> Self {
        Self {
            last: now,
            missing: false,
        }
    }

    fn beat(&mut self, at: Timestamp) {
        self.last = self.last.max(at);
    }

    /// The wait begins anew; whether it was missing.
    fn rest(&mut self, now: Timestamp) -> bool {
        self.beat(now);
        std::mem::take(&mut self.missing)
    }

    fn look(&mut self, now: Timestamp, within: Duration) -> Option<Beat> {
        let missing = now.since(self.last) > within;
        if missing == std::mem::replace(&mut self.missing, missing) {
            return None;
        }
        Some(if missing {
            Beat::Missing(self.last)
        } else {
            Beat::Back
        })
    }

    /// Others are waited for from now on.
    fn settle(&mut self) -> Option<Beat> {
        std::mem::take(&mut self.missing).then_some(Beat::Back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns((1_000_000 + second) * 1_000_000_000)
    }

    fn watch() -> Watch {
        Watch::new(Duration::from_secs(90), at(0))
    }

    fn news(group: Option<&str>, beat: Beat) -> News {
        let group = group.map(str::to_owned);
        News { group, beat }
    }

    #[test]
    fn a_line_is_missed_once_and_comes_back_once() {
        let mut watch = watch();
        assert_eq!(watch.look(at(90)), []);
        assert_eq!(watch.look(at(91)), [news(None, Beat::Missing(at(0)))]);
        assert_eq!(watch.look(at(200)), []);
        watch.beat(None, Kind::Journal, at(201));
        assert_eq!(watch.look(at(202)), [news(None, Beat::Back)]);
        assert_eq!(watch.look(at(203)), []);
        assert_eq!(watch.kind(), Some(Kind::Journal));
    }

    #[test]
    fn each_group_is_missed_for_itself_once_it_was_heard_of() {
        let mut watch = watch();
        assert_eq!(watch.look(at(91)), [news(None, Beat::Missing(at(0)))]);
        for (group, second) in [("a", 100), ("b", 150)] {
            watch.beat(Some(group.to_owned()), Kind::Syslog, at(second));
        }
        assert_eq!(watch.look(at(151)), [news(None, Beat::Back)]);
        assert_eq!(
            watch.look(at(191)),
            [news(Some("a"), Beat::Missing(at(100)))]
        );
        watch.beat(Some("a".to_owned()), Kind::Syslog, at(240));
        assert_eq!(
            watch.look(at(241)),
            [
                news(Some("a"), Beat::Back),
                news(Some("b"), Beat::Missing(at(150)))
            ]
        );
        let excused = news(Some("b"), Beat::Excused);
        assert_eq!(watch.rest(at(1000)), [excused], "a is there");
        assert_eq!(watch.rest(at(1000)), []);
        assert_eq!(watch.look(at(1090)), [], "the wait began anew");
        assert_eq!(watch.look(at(1091)).len(), 2);
    }

    #[test]
    fn hostile_groups_take_no_memory_and_those_that_beat_stay() {
        let mut watch = watch();
        for number in 0..10_000 {
            watch.beat(Some(number.to_string()), Kind::Syslog, at(1));
        }
        assert_eq!(watch.groups.len(), GROUPS_MAX);
        watch.beat(Some("0".to_owned()), Kind::Syslog, at(80));
        assert_eq!(watch.look(at(92)).len(), GROUPS_MAX - 1);
        watch.beat(Some("new".to_owned()), Kind::Syslog, at(93));
        assert_eq!(watch.groups.len(), GROUPS_MAX);
        assert!(watch.groups.contains_key("new") && watch.groups.contains_key("0"));
    }
}
