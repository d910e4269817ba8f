//! Mattermost: an attachment of Markdown. Foreign text stands in code spans, in which nothing is
//! marked up, linked or mentioned.

use serde_json::{Value, json};

use super::Look;
use crate::notify::event::Event;
use crate::notify::words::{Card, Tone};

pub(super) fn body(events: &[Event], look: &Look) -> Value {
    let card = Card::of(events, look);
    let color = match card.tone {
        Tone::Good => "#2e7d32",
        Tone::Neutral => "#546e7a",
        Tone::Attention => "#f9a825",
        Tone::Fault => "#c62828",
    };
    let lines = card.lines.iter().map(|line| format!("- {}", literal(line)));
    let rows = card.rows.iter();
    let rows = rows.map(|(label, text)| format!("**{label}** {}", literal(text)));
    let link = card
        .link
        .iter()
        .map(|(words, url)| format!("[{words}]({url})"));
    let text: Vec<String> = std::iter::once(literal(&card.title))
        .chain(lines)
        .chain(rows)
        .chain(link)
        .collect();
    json!({
        "attachments": [{
            "fallback": literal(&card.title),
            "color": color,
            "text": text.join("\n"),
        }],
    })
}

/// A code span whose fence is longer than any within.
fn literal(text: &str) -> String {
    let runs = text.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
    format!("{fence} {text} {fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn foreign_text_cannot_leave_its_code_span() {
        assert_eq!(literal("@channel"), "` @channel `");
        assert_eq!(literal("`` ` @all"), "``` `` ` @all ```");
        let events = [samples::opened("` @channel ```")];
        let body = body(&events, &Look::sample(Language::En));
        let text = body["attachments"][0]["text"].as_str().unwrap();
        assert!(
            text.starts_with("```` Incident: ` @channel ``` ````\n"),
            "{text}"
        );
        assert!(text.ends_with(
            "[Open in wirewitness](https://tap.test/#/incidents/20251123T100211Z-5f3a9c)"
        ));
    }
}
