//! Our own JSON, as docs/API.md describes it.

use serde_json::{Value, json};

use super::Look;
use crate::notify::event::Event;
use crate::notify::words::Card;

/// One piece of news, or `"type": "summary"` with all of them in `events`.
pub(in crate::notify) fn body(events: &[Event], look: &Look) -> Value {
    let mut body = match events {
        [one] => of_one(one, look),
        many => json!({
            "type": "summary",
            "id": super::id(many),
            "at": many.last().map(|event| event.at),
            "count": many.len(),
            "url": look.link(None),
            "events": many.iter().map(|event| of_one(event, look)).collect::<Vec<_>>(),
        }),
    };
    if let Some(body) = body.as_object_mut() {
        body.insert("text".to_owned(), Card::of(events, look).title.into());
        body.insert("host".to_owned(), look.host.clone().into());
        body.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        body.retain(|_, value| !value.is_null());
    }
    body
}

fn of_one(event: &Event, look: &Look) -> Value {
    // Strings and numbers all of it: it cannot fail.
    let mut value = serde_json::to_value(event).unwrap_or_default();
    if let (Some(value), Some(url)) = (value.as_object_mut(), look.link(event.news.incident())) {
        value.insert("url".to_owned(), url.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    #[test]
    fn one_is_itself_and_many_are_a_summary() {
        let look = Look::sample(Language::En);
        let one = body(&[samples::opened("<b>\n")], &look);
        assert_eq!(one["type"], "incident.opened");
        assert_eq!(one["id"], "20251123T100211Z-5f3a9c.opened");
        assert_eq!(one["incident"]["subject"], "<b>\n");
        assert_eq!(
            one["url"],
            "https://tap.test/#/incidents/20251123T100211Z-5f3a9c"
        );
        assert_eq!(
            (&one["host"], &one["text"]),
            (&json!("tap-1"), &json!("Incident: <b>\n"))
        );
        let many = body(&[samples::opened("a"), samples::trouble()], &look);
        assert_eq!(
            (&many["type"], &many["count"]),
            (&json!("summary"), &json!(2))
        );
        assert_eq!(many["events"][1]["trouble"]["code"], "packets_lost");
        assert_eq!(many["id"], "20251123T100211Z-5f3a9c.opened..packets_lost-1");
    }
}
