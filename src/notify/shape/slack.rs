//! Slack: blocks of mrkdwn, in which `&`, `<` and `>` are the control characters.

use serde_json::{Value, json};

use super::Look;
use crate::notify::event::Event;
use crate::notify::words::Card;
use crate::trigger::cut;

/// The longest text of a section is 3000 characters.
const SECTION_BYTES_MAX: usize = 2900;

pub(super) fn body(events: &[Event], look: &Look) -> Value {
    let card = Card::of(events, look);
    let title = escape(&card.title);
    let rows = card.rows.iter();
    let rows = rows.map(|(label, text)| format!("*{label}*  {}", escape(text)));
    let lines = card.lines.iter().map(|line| format!("• {}", escape(line)));
    let text: Vec<String> = lines.chain(rows).collect();
    let text = within(&text.join("\n"), SECTION_BYTES_MAX);
    let text = match &card.link {
        Some((words, url)) => format!("{text}\n<{}|{words}>", escape(url)),
        None => text,
    };
    let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    json!({
        "text": title,
        "blocks": [section(&format!("*{title}*")), section(&text)],
    })
}

/// What Slack would take for a mention, a link or an entity becomes text. The marks of bold, italic
/// and code stay: they change the look and nothing else.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Cut, and not within an entity.
fn within(text: &str, limit: usize) -> String {
    let kept = cut(text, limit);
    match kept.rfind('&') {
        Some(at)
            if kept.len() < text.len() && !kept.get(at..).is_some_and(|end| end.contains(';')) =>
        {
            cut(kept, at).to_owned()
        }
        _ => kept.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn foreign_text_mentions_nobody() {
        let events = [samples::opened(
            "<!channel> <https://evil.test|login> &amp;",
        )];
        let body = body(&events, &Look::sample(Language::En));
        let title = body["text"].as_str().unwrap();
        assert_eq!(
            title,
            "Incident: &lt;!channel&gt; &lt;https://evil.test|login&gt; &amp;amp;"
        );
        let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
        // The only link is ours.
        assert_eq!(text.matches('<').count(), 1, "{text}");
        assert!(text.ends_with(
            "\n<https://tap.test/#/incidents/20251123T100211Z-5f3a9c|Open in wirewitness>"
        ));
    }

    #[test]
    fn a_section_is_not_too_long_and_not_cut_within_an_entity() {
        let many: Vec<Event> = (0..40).map(|_| samples::opened(&"<".repeat(250))).collect();
        let body = body(&many, &Look::sample(Language::Ja));
        let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= 3000);
        assert!(
            text.matches('&').count() == text.matches("&lt;").count(),
            "{text}"
        );
    }
}
