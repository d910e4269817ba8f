//! Teams: an Adaptive Card for a workflow's hook. Text stands in text runs, which know no Markdown.

use serde_json::{Value, json};

use super::Look;
use crate::notify::event::Event;
use crate::notify::words::{Card, Tone};

pub(super) fn body(events: &[Event], look: &Look) -> Value {
    let card = Card::of(events, look);
    let color = match card.tone {
        Tone::Good => "Good",
        Tone::Neutral => "Default",
        Tone::Attention => "Warning",
        Tone::Fault => "Attention",
    };
    let title = json!({"type": "TextRun", "text": literal(&card.title), "weight": "Bolder",
        "size": "Medium", "color": color});
    let mut blocks = vec![block(&[title])];
    blocks.extend(card.lines.iter().map(|line| block(&[run(line)])));
    for (label, text) in &card.rows {
        let label = json!({"type": "TextRun", "text": format!("{label}  "), "weight": "Bolder"});
        blocks.push(block(&[label, run(text)]));
    }
    let actions = card.link.iter();
    let actions =
        actions.map(|(title, url)| json!({"type": "Action.OpenUrl", "title": title, "url": url}));
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "fallbackText": literal(&card.title),
                "msteams": {"width": "Full"},
                "body": blocks,
                "actions": actions.collect::<Vec<_>>(),
            },
        }],
    })
}

fn block(inlines: &[Value]) -> Value {
    json!({"type": "RichTextBlock", "spacing": "Small", "inlines": inlines})
}

fn run(text: &str) -> Value {
    json!({"type": "TextRun", "text": literal(text)})
}

/// `{{DATE(...)}}` is a function of cards and `${...}` one of their templates, also in text.
fn literal(text: &str) -> String {
    text.replace('{', "{\u{200b}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn foreign_text_is_in_runs_and_no_function() {
        let events = [samples::opened(
            "[x](https://evil.test) {{DATE(2026-01-01)}} ${a}",
        )];
        let body = body(&events, &Look::sample(Language::En));
        let content = &body["attachments"][0]["content"];
        for block in content["body"].as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock");
        }
        let title = content["body"][0]["inlines"][0]["text"].as_str().unwrap();
        assert!(!title.contains("{{") && !title.contains("${a"), "{title}");
        assert_eq!(content["actions"].as_array().unwrap().len(), 1);
    }
}
