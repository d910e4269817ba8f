//! Templates such as `link {port} of {host}`: literal text with named holes.

use std::fmt;

/// A parsed template. `{{` and `}}` stand for the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Hole(String),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An opening brace has no closing one, or the other way round.
    #[error(
        "unbalanced brace at character {at} of {text:?}; write {{{{ or }}}} for a brace itself"
    )]
    Unbalanced {
        /// The template.
        text: String,
        /// The position, from 1.
        at: usize,
    },
    /// A hole that nothing fills.
    #[error(
        "{{{name}}} in {text:?} is not a named capture of the rule; it has {}",
        Names(known)
    )]
    Unknown {
        /// The template.
        text: String,
        /// The hole.
        name: String,
        /// What could be named.
        known: Vec<String>,
    },
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Template {
    /// Parses a template whose holes must all be among `known`.
    pub fn parse(text: &str, known: &[String]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().enumerate().peekable();
        while let Some((at, character)) = rest.next() {
            let doubled = rest.peek().is_some_and(|(_, next)| *next == character);
            match character {
                '{' | '}' if doubled => {
                    rest.next();
                    literal.push(character);
                }
                '{' => {
                    let name: String = rest
                        .by_ref()
                        .map(|(_, c)| c)
                        .take_while(|c| *c != '}')
                        .collect();
                    let closed = text
                        .chars()
                        .nth(at + 1 + name.chars().count())
                        .is_some_and(|c| c == '}');
                    if !closed {
                        return Err(unbalanced(text, at));
                    }
                    if !known.contains(&name) {
                        return Err(TemplateError::Unknown {
                            text: text.to_owned(),
                            name,
                            known: known.to_vec(),
                        });
                    }
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                    parts.push(Part::Hole(name));
                }
                '}' => return Err(unbalanced(text, at)),
                plain => literal.push(plain),
            }
        }
        parts.push(Part::Literal(literal));
        Ok(Self { parts })
    }

    /// The text with each hole filled by `fill`; `None` as soon as one cannot be filled.
    pub fn expand(&self, mut fill: impl FnMut(&str) -> Option<String>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Hole(name) => text.push_str(&fill(name)?),
            }
        }
        Some(text)
    }
}

fn unbalanced(text: &str, at: usize) -> TemplateError {
    TemplateError::Unbalanced {
        text: text.to_owned(),
        at: at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        vec!["peer".to_owned(), "host".to_owned()]
    }

    fn expand(text: &str) -> Option<String> {
        Template::parse(text, &known())
            .unwrap()
            .expand(|name| (name == "peer").then(|| "P".to_owned()))
    }

    #[test]
    fn holes_are_filled() {
        assert_eq!(expand("{peer}").as_deref(), Some("P"));
        assert_eq!(expand("a {peer}{peer} b").as_deref(), Some("a PP b"));
        assert_eq!(expand("{{あ}} {peer}").as_deref(), Some("{あ} P"));
        assert_eq!(expand("").as_deref(), Some(""));
        assert_eq!(expand("{host}"), None);
    }

    #[test]
    fn a_mistake_is_named() {
        let error = |text| Template::parse(text, &known()).unwrap_err().to_string();
        assert!(error("{per}").contains("{per} in \"{per}\" is not a named capture"));
        assert!(error("{per}").contains("peer, host"));
        assert!(error("a {peer").contains("character 3"));
        assert!(error("a }").contains("character 3"));
    }
}
