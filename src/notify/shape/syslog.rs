//! Syslog, RFC 5424: the facts as structured data, the words as the message.

use chrono::{DateTime, SecondsFormat, Utc};

use super::Look;
use crate::notify::event::{Event, News};
use crate::notify::words::title;

/// Our structured data, under the enterprise number that RFC 5612 keeps for documentation.
const SD_ID: &str = "wirewitness@32473";
/// Facility daemon.
const FACILITY: u8 = 3;

/// One message, without framing.
pub(in crate::notify) fn line(event: &Event, look: &Look) -> String {
    let severity = match &event.news {
        News::Trouble { .. } => 3,
        News::Opened { incident } if !incident.is_precursor() => 4,
        News::Promoted { .. } => 4,
        News::Opened { .. } | News::Recovered { .. } => 5,
        News::Sealed { .. } | News::Test => 6,
    };
    let ns = i64::try_from(event.at.as_ns()).unwrap_or(i64::MAX);
    let at = DateTime::<Utc>::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Micros, true);
    let (msgid, mut parameters) = facts(event);
    parameters.push(("id", event.id.clone()));
    parameters.extend(look.link(event.news.incident()).map(|url| ("url", url)));
    let data = parameters.iter();
    let data: Vec<String> = data
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    let data = data.join(" ");
    let title = title(event, look.language).replace(char::is_control, " ");
    format!(
        "<{}>1 {at} {} wirewitness {} {msgid} [{SD_ID} {data}] \u{feff}{title}",
        FACILITY * 8 + severity,
        look.host,
        std::process::id(),
    )
}

fn facts(event: &Event) -> (&'static str, Vec<(&'static str, String)>) {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let msgid = match &event.news {
        News::Opened { .. } => "opened",
        News::Promoted { .. } => "promoted",
        News::Sealed { .. } => "sealed",
        News::Trouble { .. } => "trouble",
        News::Recovered { .. } => "recovered",
        News::Test => "test",
    };
    let mut facts = Vec::new();
    if let Some(about) = event.news.incident() {
        facts.extend([
            ("incident", about.id.clone()),
            (
                "grade",
                word(serde_json::to_value(about.grade).unwrap_or_default()),
            ),
            ("subject", about.subject.clone()),
            ("kind", about.trigger.kind.to_string()),
            ("source", about.trigger.source.clone()),
            ("triggers", about.triggers.to_string()),
            ("packets", about.packets.to_string()),
            (
                "verdict",
                word(serde_json::to_value(about.verdict).unwrap_or_default()),
            ),
        ]);
    }
    if let Some(trouble) = event.news.trouble() {
        facts.push((
            "code",
            word(serde_json::to_value(trouble.code).unwrap_or_default()),
        ));
        facts.push(("about", trouble.about.clone()));
        facts.push(("detail", trouble.detail.clone()));
        facts.extend(
            trouble
                .packets
                .map(|packets| ("packets", packets.to_string())),
        );
    }
    (msgid, facts)
}

/// RFC 5424, 6.3.3: `"`, `\` and `]` are escaped; a control character would end the message for
/// receivers that read by line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' | ']' => escaped.extend(['\\', character]),
            control if control.is_control() => escaped.push(' '),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn foreign_text_stays_in_its_value() {
        let event = samples::opened("a\"] \\ x=\"1\n<0>1 - evil");
        let line = line(&event, &Look::sample(Language::En));
        assert!(
            line.starts_with("<28>1 2025-11-23T10:02:11.000000Z tap-1 wirewitness "),
            "{line}"
        );
        assert!(
            line.contains(r#" subject="a\"\] \\ x=\"1 <0>1 - evil" "#),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
        let trouble = super::line(&samples::trouble(), &Look::sample(Language::En));
        assert!(
            trouble.contains(r#" trouble [wirewitness@32473 code="packets_lost" about="eth1""#),
            "{trouble}"
        );
    }
}
