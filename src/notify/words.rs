//! The words of a message, in the target's language: a heading of ours, then rows of label and
//! foreign text. Shapes only arrange and escape them.

use std::time::Duration;

use chrono::{DateTime, Local};

use super::config::Language;
use super::event::{About, Code, Event, News, Trouble};
use super::shape::Look;
use crate::incident::model::Verdict;
use crate::time::{Timestamp, Window};
use crate::trigger::Kind;

/// Pieces of news named in a message that sums up many.
const NAMED_MAX: usize = 10;

/// How bad the news is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Neutral,
    Attention,
    Fault,
}

/// A message, before it has a shape. Everything in it may be foreign: shapes show it literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) tone: Tone,
    pub(super) title: String,
    pub(super) rows: Vec<(&'static str, String)>,
    /// Further lines, of a message that sums up.
    pub(super) lines: Vec<String>,
    /// Where to look further, and what to call it.
    pub(super) link: Option<(&'static str, String)>,
}

/// One word in both languages.
const fn say(language: Language, english: &'static str, japanese: &'static str) -> &'static str {
    match language {
        Language::En => english,
        Language::Ja => japanese,
    }
}

impl Card {
    /// The message of these pieces of news; more than one are summed up.
    pub(super) fn of(events: &[Event], look: &Look) -> Self {
        match events {
            [one] => Self::of_one(one, look),
            many => Self::of_many(many, look),
        }
    }

    fn of_one(event: &Event, look: &Look) -> Self {
        let language = look.language;
        let mut rows = match &event.news {
            News::Opened { incident } | News::Promoted { incident } => opened(incident, language),
            News::Sealed { incident } => sealed(incident, language),
            News::Trouble { trouble } | News::Recovered { trouble } => {
                trouble_rows(trouble, language)
            }
            News::Test => Vec::new(),
        };
        rows.push((say(language, "Reported by", "通知元"), look.host.clone()));
        let open = say(language, "Open in wirewitness", "wirewitness で開く");
        Self {
            tone: tone(&event.news),
            title: title(event, language),
            rows,
            lines: Vec::new(),
            link: look.link(event.news.incident()).map(|url| (open, url)),
        }
    }

    fn of_many(events: &[Event], look: &Look) -> Self {
        let language = look.language;
        let count = events.len();
        let mut lines: Vec<String> = events
            .iter()
            .take(NAMED_MAX)
            .map(|event| title(event, language))
            .collect();
        if let Some(more) = count.checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            lines.push(match language {
                Language::En => format!("and {more} more"),
                Language::Ja => format!("ほか {more} 件"),
            });
        }
        let worst = events.iter().map(|event| tone(&event.news));
        let open = say(language, "Open wirewitness", "wirewitness を開く");
        Self {
            tone: worst
                .max_by_key(|tone| *tone as u8)
                .unwrap_or(Tone::Neutral),
            title: match language {
                Language::En => format!("{count} notifications at once"),
                Language::Ja => format!("{count} 件の通知（まとめて送信）"),
            },
            rows: vec![(say(language, "Reported by", "通知元"), look.host.clone())],
            lines,
            link: look.link(None).map(|url| (open, url)),
        }
    }
}

fn tone(news: &News) -> Tone {
    match news {
        News::Opened { incident } if incident.is_precursor() => Tone::Attention,
        News::Opened { .. } | News::Promoted { .. } | News::Trouble { .. } => Tone::Fault,
        News::Sealed { .. } | News::Test => Tone::Neutral,
        News::Recovered { .. } => Tone::Good,
    }
}

/// One line that says it all.
pub(super) fn title(event: &Event, language: Language) -> String {
    let of = |heading: &str, about: &About| format!("{heading}: {}", about.subject);
    match &event.news {
        News::Opened { incident } if incident.is_precursor() => {
            of(say(language, "Early sign frozen", "前兆を保全"), incident)
        }
        News::Opened { incident } => of(say(language, "Incident", "インシデント発生"), incident),
        News::Promoted { incident } => of(
            say(
                language,
                "Early sign became an incident",
                "前兆がインシデントに発展",
            ),
            incident,
        ),
        News::Sealed { incident } => of(say(language, "Evidence sealed", "証拠を封印"), incident),
        News::Trouble { trouble } => format!(
            "{}: {}",
            say(language, "wirewitness has a problem", "wirewitness の問題"),
            what(trouble, language)
        ),
        News::Recovered { trouble } => format!(
            "{}: {}",
            say(language, "wirewitness has recovered", "wirewitness の復旧"),
            what(trouble, language)
        ),
        News::Test => say(
            language,
            "Test message of wirewitness",
            "wirewitness のテスト通知",
        )
        .to_owned(),
    }
}

/// What a trouble is, in words.
pub(super) fn what(trouble: &Trouble, language: Language) -> String {
    let words = match trouble.code {
        Code::RecorderUnreachable => say(
            language,
            "the recorder does not answer",
            "レコーダーが応答していません",
        ),
        Code::NotRecorded => say(
            language,
            "an interface is not recorded",
            "記録されていないインターフェースがあります",
        ),
        Code::PacketsLost => say(language, "packets were lost", "パケットを取りこぼしました"),
        Code::DiskError => say(
            language,
            "the disk under the ring reports errors",
            "リングのディスクがエラーを報告しています",
        ),
        Code::Lookback => say(
            language,
            "the ring reaches less far back than wanted",
            "遡れる時間が設定より短くなっています",
        ),
        Code::DiskFull => say(
            language,
            "the disk is nearly full",
            "ディスクの空きがわずかです",
        ),
        Code::EvidenceFull => say(
            language,
            "evidence nearly fills its quota",
            "証拠が上限に近づいています",
        ),
        Code::SourceFailing => say(
            language,
            "a trigger source fails",
            "トリガー源が動作していません",
        ),
        Code::Clock => say(
            language,
            "the clock is not synchronised",
            "時計が同期していません",
        ),
    };
    if trouble.about.is_empty() {
        words.to_owned()
    } else {
        format!("{words} ({})", trouble.about)
    }
}

fn opened(about: &About, language: Language) -> Vec<(&'static str, String)> {
    let mut rows = of_incident(about, language);
    rows.push((
        say(language, "Message", "メッセージ"),
        about.trigger.text.clone(),
    ));
    rows.push((say(language, "Kept", "保全範囲"), span(about.window)));
    rows
}

fn sealed(about: &About, language: Language) -> Vec<(&'static str, String)> {
    let mut rows = of_incident(about, language);
    rows.push((
        say(language, "Triggers", "トリガー数"),
        about.triggers.to_string(),
    ));
    rows.push((say(language, "Kept", "保全範囲"), span(about.window)));
    let size = bytesize::ByteSize(about.bytes);
    rows.push((
        say(language, "Packets", "パケット"),
        format!("{} ({size})", about.packets),
    ));
    let verdict = match about.verdict {
        Verdict::Complete => say(language, "complete", "完全"),
        Verdict::Incomplete => say(language, "incomplete", "不完全"),
        Verdict::Pending => say(language, "not decided", "未判定"),
    };
    let all = std::iter::once(verdict).chain(about.reasons.iter().map(String::as_str));
    let all: Vec<&str> = all.collect();
    rows.push((say(language, "Evidence", "証拠"), all.join("; ")));
    rows
}

fn of_incident(about: &About, language: Language) -> Vec<(&'static str, String)> {
    let trigger = &about.trigger;
    let kind = kind(trigger.kind, language);
    let mut rows = vec![
        (
            say(language, "Trigger", "トリガー"),
            format!("{kind} ({})", trigger.source),
        ),
        (say(language, "When", "発生時刻"), time(trigger.at)),
    ];
    if let Some(sign) = about.first_sign {
        let earlier = length(trigger.at.since(sign));
        let text = match language {
            Language::En => format!("{} ({earlier} earlier)", time(sign)),
            Language::Ja => format!("{}（{earlier} 前）", time(sign)),
        };
        rows.push((say(language, "First sign", "最初の兆候"), text));
    }
    rows.push((say(language, "Incident", "インシデント"), about.id.clone()));
    rows
}

fn kind(kind: Kind, language: Language) -> String {
    let japanese = match kind {
        Kind::Manual => "手動",
        Kind::Probe => "死活監視",
        Kind::Syslog => "Syslog",
        Kind::Logfile => "ログファイル",
        Kind::Journal => "ジャーナル",
        Kind::Webhook => "Webhook",
        Kind::Trap => "SNMP トラップ",
        Kind::Symptom => "パケットの兆候",
        Kind::Drill => "訓練",
    };
    match language {
        Language::En => kind.to_string(),
        Language::Ja => japanese.to_owned(),
    }
}

fn trouble_rows(trouble: &Trouble, language: Language) -> Vec<(&'static str, String)> {
    let mut rows = vec![(say(language, "Since", "開始"), time(trouble.since))];
    if let Some(until) = trouble.until {
        rows.push((say(language, "Until", "終了"), time(until)));
        let lasted = length(until.since(trouble.since));
        rows.push((say(language, "Lasted", "継続時間"), lasted));
    }
    if let Some(packets) = trouble.packets {
        let label = say(language, "Packets lost", "取りこぼし");
        rows.push((label, packets.to_string()));
    }
    if !trouble.detail.is_empty() {
        rows.push((say(language, "Detail", "詳細"), trouble.detail.clone()));
    }
    rows
}

/// A time as people on site read it: theirs, with its offset.
fn time(at: Timestamp) -> String {
    let ns = i64::try_from(at.as_ns()).unwrap_or(i64::MAX);
    let local = DateTime::from_timestamp_nanos(ns).with_timezone(&Local);
    local.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn span(window: Window) -> String {
    let length = length(window.to.since(window.from));
    format!("{} + {length}", time(window.from))
}

fn length(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::samples;

    #[test]
    fn many_are_summed_up_with_the_first_by_name() {
        let events: Vec<Event> = (0..40).map(|n| samples::opened(&format!("s{n}"))).collect();
        let card = Card::of(&events, &Look::sample(Language::En));
        assert_eq!(card.title, "40 notifications at once");
        assert_eq!(card.lines.len(), 11);
        assert_eq!(card.lines[9..], ["Incident: s9", "and 30 more"]);
        assert_eq!(card.tone, Tone::Fault);
    }

    #[test]
    fn both_languages_say_the_same_things() {
        for event in [samples::opened("peer 192.0.2.1"), samples::trouble()] {
            let [en, ja] = [Language::En, Language::Ja]
                .map(|language| Card::of(std::slice::from_ref(&event), &Look::sample(language)));
            assert_eq!(en.rows.len(), ja.rows.len());
            assert!(en.title.is_ascii() && !ja.title.is_ascii(), "{en:?} {ja:?}");
        }
        let trouble = Card::of(&[samples::trouble()], &Look::sample(Language::En));
        assert_eq!(
            trouble.title,
            "wirewitness has a problem: packets were lost (eth1)"
        );
    }

    #[test]
    fn a_link_leads_to_the_incident() {
        let card = Card::of(&[samples::opened("s")], &Look::sample(Language::En));
        let (_, url) = card.link.unwrap();
        assert_eq!(url, "https://tap.test/#/incidents/20251123T100211Z-5f3a9c");
    }
}
