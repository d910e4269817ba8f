//! Mail: plain text. What could end a header is gone from foreign text before it comes here, and
//! `lettre` encodes headers besides.

use super::Look;
use crate::notify::event::Event;
use crate::notify::words::Card;

/// Subject and text.
pub(in crate::notify) fn text(events: &[Event], look: &Look) -> (String, String) {
    let card = Card::of(events, look);
    let one_line = |text: &str| text.replace(char::is_control, " ");
    let mut lines = vec![one_line(&card.title), String::new()];
    lines.extend(
        card.lines
            .iter()
            .map(|line| format!("- {}", one_line(line))),
    );
    if !card.lines.is_empty() {
        lines.push(String::new());
    }
    let rows = card.rows.iter();
    lines.extend(rows.map(|(label, value)| format!("{label}: {}", one_line(value))));
    if let Some((words, url)) = &card.link {
        lines.extend([String::new(), format!("{words}:"), url.clone()]);
    }
    let text = lines.join("\n") + "\n";
    (one_line(&card.title), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn a_subject_is_one_line_whatever_it_holds() {
        let events = [samples::opened("x\r\nBcc: all@evil.test\r\n\r\nhello")];
        let (subject, text) = text(&events, &Look::sample(Language::En));
        assert_eq!(subject, "Incident: x  Bcc: all@evil.test    hello");
        assert!(
            text.starts_with(&format!("{subject}\n\nTrigger: ")),
            "{text}"
        );
        assert!(text.ends_with("\nhttps://tap.test/#/incidents/20251123T100211Z-5f3a9c\n"));
    }
}
