//! `[[path]]`: probes in the order in which packets meet their targets, and where on the way loss
//! begins.
//!
//! Loss at one hop is not loss on the path: routers answer echoes when they have nothing better to
//! do. Only what is also lost at every further point was lost on the way.

use serde::{Deserialize, Serialize};

/// The fewest points that make a way.
const POINTS_MIN: usize = 2;
/// The most points of a path.
const POINTS_MAX: usize = 64;

/// One `[[path]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathConfig {
    /// Its name.
    pub name: String,
    /// Names of probes, the nearest first.
    pub points: Vec<String>,
}

/// Why a path cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A path without a name.
    #[error("[[path]] points = {0:?}: name is empty")]
    Unnamed(Vec<String>),
    /// Two paths of one name.
    #[error("[[path]] name = {0:?} is given twice")]
    Duplicate(String),
    /// Its points make no way.
    #[error("[[path]] {name}: points: {why}")]
    Points {
        /// The path.
        name: String,
        /// What is wrong with them.
        why: String,
    },
}

/// Checks all paths against the names of the probes.
pub fn validate(paths: &[PathConfig], probes: &[&str]) -> Result<(), PathError> {
    let mut names = std::collections::HashSet::new();
    for path in paths {
        if path.name.trim().is_empty() {
            return Err(PathError::Unnamed(path.points.clone()));
        }
        if !names.insert(&path.name) {
            return Err(PathError::Duplicate(path.name.clone()));
        }
        let error = |why: String| {
            let name = path.name.clone();
            Err(PathError::Points { name, why })
        };
        if !(POINTS_MIN..=POINTS_MAX).contains(&path.points.len()) {
            return error(format!(
                "name {POINTS_MIN} to {POINTS_MAX} probes, the nearest first"
            ));
        }
        let mut seen = std::collections::HashSet::new();
        for point in &path.points {
            if !probes.contains(&point.as_str()) {
                return error(format!("there is no [[probe]] {point:?}"));
            }
            if !seen.insert(point) {
                return error(format!("{point:?} is given twice"));
            }
        }
    }
    Ok(())
}

/// How a point of a path is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Answers,
    /// It loses probes.
    Loses,
    /// Nothing is known of it yet.
    Unknown,
}

/// Where loss begins on a path, by the places of its points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LossMap {
    /// The first point from which on every point loses.
    pub begins: Option<usize>,
    /// Points that lose while a further one answers: they limit their answers.
    pub limited: Vec<usize>,
}

/// Finds where loss begins. A point of which nothing is known says nothing.
pub fn where_loss_begins(points: &[Health]) -> LossMap {
    let last_answering = points.iter().rposition(|point| *point == Health::Answers);
    let losing = |(at, health): (usize, &Health)| (*health == Health::Loses).then_some(at);
    let beyond = last_answering.map_or(0, |at| at + 1);
    let mut losing: Vec<usize> = points.iter().enumerate().filter_map(losing).collect();
    let on_the_way = losing.partition_point(|&at| at < beyond);
    let begins = losing.get(on_the_way).copied();
    losing.truncate(on_the_way);
    LossMap {
        begins,
        limited: losing,
    }
}

impl LossMap {
    /// In words, for a trigger's text; `None` when there is no loss on the way.
    pub fn text(&self, points: &[String]) -> Option<String> {
        let at = self.begins?;
        let point = points.get(at)?;
        Some(
            match at.checked_sub(1).and_then(|before| points.get(before)) {
                Some(before) => format!("loss begins between {before} and {point}"),
                None => format!("loss begins before {point}, the first point"),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn healths(text: &str) -> Vec<Health> {
        let health = |c| match c {
            '.' => Health::Answers,
            'x' => Health::Loses,
            _ => Health::Unknown,
        };
        text.chars().map(health).collect()
    }

    #[test]
    fn loss_at_a_hop_is_not_loss() {
        for (points, begins, limited) in [
            ("...", None, vec![]),
            ("..x", Some(2), vec![]),
            (".xx", Some(1), vec![]),
            ("xxx", Some(0), vec![]),
            // A router in the middle that does not answer echoes.
            (".x.", None, vec![1]),
            ("x.x", Some(2), vec![0]),
            (".x.xx", Some(3), vec![1]),
            // Nothing known of a point moves nothing.
            (".?x", Some(2), vec![]),
            (".x?", Some(1), vec![]),
            ("???", None, vec![]),
            ("", None, vec![]),
        ] {
            let expected = LossMap { begins, limited };
            assert_eq!(where_loss_begins(&healths(points)), expected, "{points}");
        }
    }

    #[test]
    fn it_is_said_in_words() {
        let names: Vec<String> = ["gateway", "provider-edge", "osaka-router"]
            .map(str::to_owned)
            .into();
        let text = |points| where_loss_begins(&healths(points)).text(&names);
        assert_eq!(
            text("..x").as_deref(),
            Some("loss begins between provider-edge and osaka-router")
        );
        assert_eq!(
            text("xxx").as_deref(),
            Some("loss begins before gateway, the first point")
        );
        assert_eq!(text(".x."), None);
    }

    #[test]
    fn mistakes_name_the_path() {
        let path = |name: &str, points: &[&str]| PathConfig {
            name: name.to_owned(),
            points: points.iter().map(|&point| point.to_owned()).collect(),
        };
        let probes = ["a", "b"];
        assert_eq!(validate(&[path("p", &["a", "b"])], &probes), Ok(()));
        for (paths, words) in [
            (vec![path("", &["a", "b"])], "name is empty"),
            (
                vec![path("p", &["a", "b"]), path("p", &["b", "a"])],
                "twice",
            ),
            (vec![path("p", &["a"])], "p: points: name 2 to 64"),
            (vec![path("p", &["a", "c"])], "no [[probe]] \"c\""),
            (vec![path("p", &["a", "a"])], "\"a\" is given twice"),
        ] {
            let error = validate(&paths, &probes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn beyond_the_beginning_nobody_answers(text in "[.x?]{0,12}") {
            let points = healths(&text);
            let map = where_loss_begins(&points);
            if let Some(at) = map.begins {
                prop_assert!(points[at..].iter().all(|point| *point != Health::Answers));
            }
            let told = map.limited.len()
                + map.begins.map_or(0, |at| points[at..].iter().filter(|p| **p == Health::Loses).count());
            prop_assert_eq!(told, points.iter().filter(|p| **p == Health::Loses).count());
        }
    }
}
