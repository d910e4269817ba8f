//! Reads configuration files and lays them over each other.

use std::fs;
use std::path::Path;

use super::{Config, ConfigError};

/// Reads a file, refuses what the configuration does not know, and returns it as a table.
pub(super) fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("read {}: {error}", path.display())))?;
    // The typed reading finds unknown keys and wrong kinds while their place is known.
    toml::from_str::<Config>(&text).map_err(|error| explain(path, &text, &error))?;
    toml::from_str(&text).map_err(|error| explain(path, &text, &error))
}

/// Lays `over` upon `under`: tables by key, lists one after the other, values replaced.
pub(super) fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (Some(toml::Value::Array(under)), toml::Value::Array(mut over)) if is_tables(&over) => {
                under.append(&mut over);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Whether it is a list of tables (`[[probe]]`), which add up, and no list of values
/// (`interfaces = [..]`), which replaces.
fn is_tables(list: &[toml::Value]) -> bool {
    list.iter().any(toml::Value::is_table)
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    let message = error.message().replace(
        "expected parsable string",
        "expected a size such as 16MiB or 100GiB",
    );
    let header = text.lines().nth(line - 1).unwrap_or_default();
    let message = brackets(header, &message).unwrap_or_else(|| {
        let hint = nearest(&message).map(|key| format!("; did you mean `{key}`?"));
        message + &hint.unwrap_or_default()
    });
    ConfigError::new(format!("{}:{line}:{column}: {message}", path.display()))
}

/// What to write where a table has the brackets of a list, or the other way round.
fn brackets(header: &str, message: &str) -> Option<String> {
    if !message.starts_with("invalid type: map") {
        return None;
    }
    let header = header.split('#').next().unwrap_or_default().trim();
    let name = header.strip_prefix('[')?.strip_suffix(']')?;
    let single = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    Some(match single {
        Some(name) => format!("there is only one table {name}: write [{name}]"),
        None => format!("there can be several tables {name}: write [[{name}]]"),
    })
}

/// Line and column of a byte offset, from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// The known key nearest to an unknown one, from serde's words: unknown field `x`, expected one
/// of `a`, `b`.
fn nearest(message: &str) -> Option<&str> {
    let mut quoted = message
        .strip_prefix("unknown field")?
        .split('`')
        .skip(1)
        .step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7)
        .map(|(_, known)| known)
}
