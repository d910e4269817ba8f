//! Commands that ask the server: freeze, incidents, export, status.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::args::{Args, Format};
use crate::cli::client::{Client, ClientError, incident_path, notify_path};
use crate::cli::{Failure, load_config, show};
use crate::incident::model::Incident;

/// The client that the arguments point at: `--url`, or the local server's socket.
pub fn client(args: &Args) -> Result<Client, Failure> {
    if let Some(url) = &args.url {
        let client = Client::remote(url, args.ca.as_deref(), args.token.clone());
        return client.map_err(Failure::usage);
    }
    let socket = load_config(args)?.web.socket;
    Client::local(&socket, args.token.clone()).map_err(Failure::failed)
}

/// More incidents than there are.
const ALL: &str = "1000000";

/// A request the server found wrong is wrong usage; everything else is a failure.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { status: 400, .. } => Failure::usage(error),
        error => Failure::failed(error),
    }
}

/// What `freeze` was asked for.
#[derive(Debug)]
pub struct Freeze<'a> {
    /// `--before`
    pub before: Option<&'a str>,
    /// `--after`
    pub after: Option<&'a str>,
    /// `--reason`
    pub reason: Option<&'a str>,
    /// `--filter`
    pub filter: Option<&'a str>,
}

/// `freeze`: prints the incident's id, alone.
pub fn freeze(args: &Args, freeze: &Freeze<'_>) -> Result<(), Failure> {
    let body = json!({
        "before": freeze.before,
        "after": freeze.after,
        "reason": freeze.reason,
        "filter": freeze.filter,
    });
    let answer: Value = client(args)?
        .post("/api/v1/incidents", &without_nulls(body))
        .map_err(failure)?;
    if args.json {
        return show::json(&answer);
    }
    show::line(
        answer
            .get("incident")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    )
}

fn without_nulls(mut body: Value) -> Value {
    if let Some(object) = body.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    body
}

/// `incidents`
pub fn incidents(args: &Args) -> Result<(), Failure> {
    let incidents: Vec<Incident> = client(args)?
        .get("/api/v1/incidents", &[("limit", Some(ALL))])
        .map_err(failure)?;
    if args.json {
        show::json(&incidents)
    } else {
        show::text(&show::incidents(&incidents))
    }
}

/// `incidents show ID`
pub fn incident(args: &Args, id: &str) -> Result<(), Failure> {
    let incident: Incident = client(args)?
        .get(&incident_path(id, ""), &[])
        .map_err(failure)?;
    if args.json {
        show::json(&incident)
    } else {
        show::text(&show::incident(&incident))
    }
}

/// `status`: shows what there is, also when the recorder is not there (`doctor` judges).
pub fn status(args: &Args) -> Result<(), Failure> {
    let client = client(args)?;
    let mut status: Value = client.get("/api/v1/status", &[]).map_err(failure)?;
    // A server of an earlier version has none.
    if let Ok(Value::Object(board)) = client.get::<Value>("/api/v1/probes", &[])
        && let Value::Object(status) = &mut status
    {
        let known = ["probes", "paths"];
        status.extend(
            board
                .into_iter()
                .filter(|(key, _)| known.contains(&key.as_str())),
        );
    }
    if args.json {
        show::json(&status)
    } else {
        show::text(&show::status(&status))
    }
}

/// `notify test NAME`
pub fn test_notification(args: &Args, name: &str) -> Result<(), Failure> {
    let path = notify_path(name);
    let answer: Value = client(args)?.post(&path, &json!({})).map_err(failure)?;
    if args.json {
        return show::json(&answer);
    }
    show::line(&show::tested(&answer))
}

/// What `export` was asked for.
#[derive(Debug)]
pub struct Export<'a> {
    /// The incident; the ring without one.
    pub id: Option<&'a str>,
    /// `--from`
    pub from: Option<&'a str>,
    /// `--to`
    pub to: Option<&'a str>,
    /// `--output`
    pub output: Option<&'a Path>,
    /// `--format`
    pub format: Format,
    /// `--filter`
    pub filter: Option<&'a str>,
}

/// `export`
pub fn export(args: &Args, export: &Export<'_>) -> Result<(), Failure> {
    let path = match export.id {
        Some(id) => incident_path(id, "/pcap"),
        None => "/api/v1/ring/pcap".to_owned(),
    };
    let format = match export.format {
        Format::Pcapng => "pcapng",
        Format::Pcap => "pcap",
    };
    let parameters = [
        ("format", Some(format)),
        ("from", export.from),
        ("to", export.to),
        ("filter", export.filter),
    ];
    let client = client(args)?;
    if export.output == Some(Path::new("-")) {
        let mut out = BufWriter::new(io::stdout().lock());
        return client
            .download(&path, &parameters, &mut out)
            .map(drop)
            .map_err(failure);
    }
    let target = export
        .output
        .map_or_else(|| default_name(export.id, format), Path::to_owned);
    let bytes = to_file(&client, &path, &parameters, &target)?;
    eprintln!("{}: {}", target.display(), bytesize::ByteSize(bytes));
    Ok(())
}

fn default_name(id: Option<&str>, format: &str) -> PathBuf {
    // What the server accepts as an id is a safe file name; what it refuses is never written.
    let stem = id.map_or_else(
        || "ring".to_owned(),
        |id| id.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_"),
    );
    PathBuf::from(format!("wirewitness-{stem}.{format}"))
}

/// Downloads into a file beside the target and renames it when it is whole.
fn to_file(
    client: &Client,
    path: &str,
    parameters: &[(&str, Option<&str>)],
    target: &Path,
) -> Result<u64, Failure> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let failed =
        |error: io::Error| Failure::Failed(format!("write {}: {error}", partial.display()));
    let mut out = BufWriter::new(File::create(&partial).map_err(failed)?);
    let result = client.download(path, parameters, &mut out).map_err(failure);
    let finished = result.and_then(|downloaded| {
        out.flush().map_err(failed)?;
        fs::rename(&partial, target).map_err(failed)?;
        Ok(downloaded.bytes)
    });
    if finished.is_err() {
        drop(fs::remove_file(&partial));
    }
    finished
}
