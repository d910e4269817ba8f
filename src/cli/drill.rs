//! `drill`: asks the server to drill its sources, and says how each gets on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::cli::args::Args;
use crate::cli::client::{Client, ClientError};
use crate::cli::{Failure, remote, show};
use crate::drill::{Drill, Outcome};
use crate::trigger::Kind;

/// How often the server is asked how the drills get on.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
struct Begun {
    drills: Vec<Drill>,
}

#[derive(Debug, Deserialize)]
struct Board {
    sources: Vec<Source>,
    drills: Vec<Drill>,
}

#[derive(Debug, Deserialize)]
struct Source {
    kind: Kind,
    name: String,
    cannot: Option<String>,
}

/// Drills one source, or all; returns when every drill ended.
pub fn run(args: &Args, source: Option<&str>) -> Result<(), Failure> {
    let client = remote::client(args)?;
    let begun: Result<Begun, _> = client.post("/api/v1/drills", &json!({ "source": source }));
    let begun = begun.map_err(|error| match error {
        ClientError::Refused {
            ref code,
            ref detail,
            ..
        } if code == "no_such_source" => Failure::Usage(detail.clone()),
        error => Failure::failed(error),
    })?;
    let all = source.is_none_or(|name| name == crate::drill::ALL);
    let board = follow(args, &client, &begun.drills)?;
    let ids: Vec<&str> = begun.drills.iter().map(|drill| drill.id.as_str()).collect();
    let mut ended = board.drills;
    ended.retain(|drill| ids.contains(&drill.id.as_str()));
    ended.sort_by_key(|drill| ids.iter().position(|id| *id == drill.id));
    if args.json {
        show::json(&ended)?;
    } else {
        let skipped = if all { board.sources } else { Vec::new() };
        show::text(&table(&ended, &skipped))?;
    }
    // What is said above is not said again.
    if ended.len() == ids.len() && ended.iter().all(|one| one.outcome == Outcome::Passed) {
        return Ok(());
    }
    Err(Failure::Failed(String::new()))
}

/// Waits until all ended, and tells each step as it is done.
fn follow(args: &Args, client: &Client, begun: &[Drill]) -> Result<Board, Failure> {
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let board: Board = client
            .get("/api/v1/drills", &[("limit", Some("1000"))])
            .map_err(Failure::failed)?;
        let ours = |drill: &&Drill| begun.iter().any(|one| one.id == drill.id);
        let mut running = false;
        for drill in board.drills.iter().filter(ours) {
            running |= drill.outcome == Outcome::Running;
            let known = told.entry(drill.id.clone()).or_default();
            for done in drill.steps.iter().skip(*known) {
                if !args.json {
                    let source = show::plain(&drill.source);
                    let after = seconds(Duration::from_nanos(done.after_ns));
                    let detail = show::plain(&done.detail);
                    let line = format!("{source}: {} after {after} {detail}", done.step.name());
                    show::line(line.trim_end())?;
                }
            }
            *known = drill.steps.len();
        }
        if !running {
            return Ok(board);
        }
        client.pause(LOOK);
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

/// How the drills ended, a line each, and what was not drilled.
fn table(ended: &[Drill], sources: &[Source]) -> String {
    let mut out = format!(
        "\n{:<9} {:<9} {:>9}  {:<22} {}\n",
        "RESULT", "KIND", "TOOK", "INCIDENT", "SOURCE"
    );
    let mut row = |result: &str, kind: Kind, took: &str, incident: &str, source: &str| {
        // Writing to a String cannot fail.
        let _written = writeln!(
            out,
            "{result:<9} {:<9} {took:>9}  {incident:<22} {}",
            kind.to_string(),
            show::plain(source)
        );
    };
    let mut words = Vec::new();
    for drill in ended {
        let took = drill.took().map_or_else(|| "-".to_owned(), seconds);
        let incident = drill.incident.as_deref().unwrap_or("-");
        let result = match drill.outcome {
            Outcome::Running => "running",
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Interrupted => "BROKEN",
        };
        row(result, drill.kind, &took, incident, &drill.source);
        if let Some(why) = &drill.why {
            words.push(format!("{}: {why}", drill.source));
        }
        if let Some(seen) = &drill.sighting {
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let ms = seen.after_ns as f64 / 1e6;
            let on = &seen.interface;
            let source = &drill.source;
            words.push(format!(
                "{source}: the marked packet was captured on {on} {ms:.3} ms after it was sent"
            ));
        }
        words.extend(
            drill
                .notes
                .iter()
                .map(|note| format!("{}: {note}", drill.source)),
        );
    }
    for source in sources {
        if let Some(cannot) = &source.cannot {
            row("-", source.kind, "-", "-", &source.name);
            words.push(format!("{} cannot be drilled: {cannot}", source.name));
        }
    }
    for line in words {
        let _written = writeln!(out, "{}", show::plain(&line));
    }
    out
}
