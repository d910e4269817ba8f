//! What rules say of lines that are played back in their own time: also of those that stayed away
//! in between, and of what maintenance windows would have kept quiet.

use std::time::Duration;

use super::reading::Reading;
use crate::time::Timestamp;
use crate::trigger::maintenance::Maintenance;
use crate::trigger::rules::{Absence, Line, Rules, Verdict};
use crate::trigger::{Resolution, Trigger};

/// How often the server looks whether lines stay away.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two lines, however far their times are apart.
const LOOKS_MAX: u32 = 100_000;

/// What came of a line, or of none.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A rule matched and did not decide, and why.
    Passed(String, String),
    /// A rule waits for more, and for what.
    Held(String, String),
    /// A maintenance window, by its name, keeps it from freezing anything.
    Silenced(Box<Trigger>, String),
    /// It freezes.
    Fires(Box<Trigger>),
    /// What was missing is there again.
    Over(Box<Resolution>),
}

/// Lines of one source, in their order.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    rules: &'a Rules,
    maintenance: &'a Maintenance,
    reading: Reading,
    source: &'a str,
    /// The latest time that a line had of its own.
    clock: Option<Timestamp>,
}

impl<'a> Replay<'a> {
    pub(super) const fn new(
        rules: &'a Rules,
        maintenance: &'a Maintenance,
        reading: Reading,
        source: &'a str,
    ) -> Self {
        Self {
            rules,
            maintenance,
            reading,
            source,
            clock: None,
        }
    }

    /// What comes of a line that is read `now`. One without a time of its own comes with the line
    /// before it, as those of a stack trace do; before any time is known, now.
    pub(super) fn line(&mut self, bytes: &[u8], now: Timestamp) -> Vec<Outcome> {
        let (reading, source) = (self.reading, self.source);
        reading.offer(source, bytes, now, |line, at| {
            let mut outcomes = at.map(|at| self.wait_until(at)).unwrap_or_default();
            let at = at.or(self.clock).unwrap_or(now);
            outcomes.extend(self.judge(line, at));
            outcomes
        })
    }

    fn judge(&self, line: &Line<'_>, at: Timestamp) -> Vec<Outcome> {
        let (verdicts, passed) = self.rules.judge(line, at, at);
        let passed = passed
            .into_iter()
            .map(|(rule, why)| Outcome::Passed(rule, why));
        let verdicts = verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Held(rule, why) => Outcome::Held(rule, why),
            Verdict::Fires(trigger) => self.admit(*trigger),
        });
        passed.chain(verdicts).collect()
    }

    /// Lets the time pass in which no line came.
    fn wait_until(&mut self, at: Timestamp) -> Vec<Outcome> {
        let Some(before) = self.clock else {
            self.rules.wait_from(at);
            self.clock = Some(at);
            return Vec::new();
        };
        self.clock = Some(at.max(before));
        if at <= before || !self.rules.watch_for_absence() {
            return Vec::new();
        }
        let step = LOOK.max(at.since(before) / LOOKS_MAX);
        let next = |&look: &Timestamp| Some(look.plus(step)).filter(|look| *look < at);
        let looks = std::iter::successors(next(&before), next).chain([at]);
        let news = looks.flat_map(|look| self.rules.absences(look));
        news.map(|news| match news {
            Absence::Begun(trigger) => self.admit(*trigger),
            Absence::Over(resolution) => Outcome::Over(resolution),
        })
        .collect()
    }

    fn admit(&self, trigger: Trigger) -> Outcome {
        match self.maintenance.admit(trigger.clone()) {
            Ok(trigger) => Outcome::Fires(Box::new(trigger)),
            Err(window) => Outcome::Silenced(Box::new(trigger), window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::File;
    use super::*;

    /// What comes of these lines, each as its rule or window and its subject.
    fn outcomes(config: &str, lines: &[&str]) -> Vec<(usize, String)> {
        let file: File = toml::from_str(config).unwrap();
        let reading = Reading::of(&file, "logfile").unwrap();
        let rules = Rules::new(&file.rule).unwrap();
        let maintenance = Maintenance::new(&file.maintenance).unwrap();
        let mut replay = Replay::new(&rules, &maintenance, reading, "logfile");
        let now = "2100-01-01T00:00:00Z".parse().unwrap();
        let mut all = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let outcomes = replay.line(line.as_bytes(), now);
            let shown = outcomes.into_iter().map(|outcome| match outcome {
                Outcome::Passed(rule, why) | Outcome::Held(rule, why) => format!("{rule}: {why}"),
                Outcome::Silenced(trigger, window) => format!("{} in {window}", trigger.subject),
                Outcome::Fires(trigger) => {
                    format!("{} {} {:?}", trigger.at, trigger.subject, trigger.grade)
                }
                Outcome::Over(over) => format!("{} {} over", over.at, over.subject),
            });
            all.extend(shown.map(|text| (index + 1, text)));
        }
        all
    }

    fn told<const N: usize>(texts: [(usize, &str); N]) -> Vec<(usize, String)> {
        texts.map(|(line, text)| (line, text.to_owned())).into()
    }

    const BEAT: &str = "[[rule]]\nname = \"beat\"\nmatch = 'alive'\nabsence = \"90s\"\n";

    #[test]
    fn lines_that_stayed_away_are_missed_in_the_time_of_the_log() {
        let lines = [
            "2026-11-20T10:00:00Z alive",
            "2026-11-20T10:01:30Z alive",
            "2026-11-20T10:03:00Z other",
            "2026-11-20T10:04:00Z other",
            "2026-11-20T10:05:00Z alive",
            "2026-11-20T10:05:01Z other",
        ];
        let missing = "2026-11-20T10:01:30.000000000Z beat is missing Incident";
        let back = "2026-11-20T10:05:01.000000000Z beat is missing over";
        let waited = "beat: it was waited for";
        assert_eq!(
            outcomes(BEAT, &lines),
            told([
                (1, waited),
                (2, waited),
                (4, missing),
                (5, waited),
                (6, back)
            ])
        );
    }

    #[test]
    fn lines_without_a_time_come_with_the_one_before() {
        let lines = [
            "a title, and alive",
            "2026-11-20T10:00:00Z alive",
            "  at frame 1",
            "2026-11-20T10:00:30Z alive",
            "2026-11-20T10:04:00Z other",
        ];
        let missing = "2026-11-20T10:00:30.000000000Z beat is missing Incident";
        let waited = "beat: it was waited for";
        let all = [(1, waited), (2, waited), (4, waited), (5, missing)];
        assert_eq!(outcomes(BEAT, &lines), told(all));
    }

    #[test]
    fn a_line_of_another_century_takes_no_time() {
        let lines = [
            "1970-01-02T00:00:00Z alive",
            "2090-01-01T00:00:00Z alive",
            "2026-01-01T00:00:00Z alive",
        ];
        assert_eq!(outcomes(BEAT, &lines).len(), 4);
    }

    #[test]
    fn what_maintenance_covers_is_silenced_or_an_early_sign() {
        let config = "[[rule]]\nname = \"down\"\nmatch = 'down'\nsubject = \"port\"\n\
            [[maintenance]]\nname = \"nightly\"\nweekly = \"02:00-04:00\"\nzone = \"UTC\"\n\
            [[maintenance]]\nname = \"dusk\"\nweekly = \"20:00-21:00\"\nzone = \"UTC\"\neffect = \"precursor\"\n";
        let lines = [
            "2026-11-20T03:00:00Z down",
            "2026-11-20T20:30:00Z down",
            "2026-11-20T22:00:00Z down",
        ];
        let shown = outcomes(config, &lines);
        let ends = ["port in nightly", "port Precursor", "port Incident"];
        assert_eq!(shown.len(), 3);
        for ((_, text), end) in shown.iter().zip(ends) {
            assert!(text.ends_with(end), "{text}");
        }
    }
}
