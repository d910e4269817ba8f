//! What a server acknowledged, kept where no power cut reaches it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::Site;

/// Incidents by what their server said of them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Promises {
    /// Its trigger was accepted.
    pub(crate) accepted: BTreeSet<String>,
    /// It was sealed.
    pub(crate) sealed: BTreeSet<String>,
    /// It was to be released; whether it was is not known.
    pub(crate) releasing: BTreeSet<String>,
    /// It was released.
    pub(crate) released: BTreeSet<String>,
}

impl Promises {
    /// Sealed incidents that must be there.
    pub(crate) fn to_be_found(&self) -> impl Iterator<Item = &String> {
        self.sealed.difference(&self.releasing)
    }

    /// Accepted ones that the server must know of.
    pub(crate) fn to_be_known(&self) -> impl Iterator<Item = &String> {
        self.accepted.difference(&self.releasing)
    }

    /// Takes over one line of a log of acknowledgements ([`Ledger::on_promise`]).
    pub(crate) fn take(&mut self, line: &str) {
        let (what, id) = line.split_once(' ').unwrap();
        let set = match what {
            "accepted" => &mut self.accepted,
            "sealed" => &mut self.sealed,
            "releasing" => &mut self.releasing,
            "released" => &mut self.released,
            other => panic!("{other:?} is no promise"),
        };
        set.insert(id.to_owned());
    }
}

type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// The promises so far, written by any thread.
#[derive(Default)]
pub(crate) struct Ledger {
    promises: Mutex<Promises>,
    tell: Option<Tell>,
}

impl Ledger {
    /// Also tells `tell` of each promise after it was made.
    pub(crate) fn on_promise(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            promises: Mutex::default(),
            tell: Some(Box::new(tell)),
        }
    }

    pub(crate) fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap()
    }

    fn note(&self, what: &str, id: &str) {
        let line = format!("{what} {id}");
        self.promises().take(&line);
        if let Some(tell) = &self.tell {
            tell(&line);
        }
    }

    /// Freezes, waits for the seal, releases two older incidents for each that comes, over and over
    /// until `over`. Only a whole answer is a promise.
    pub(crate) fn run_lane(&self, socket: &Path, name: &str, over: &AtomicBool) {
        for n in 0.. {
            for id in self.to_release() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                self.note("releasing", &id);
                if ask(socket, "DELETE", &format!("/api/v1/incidents/{id}"), "")
                    == Some((204, Value::Null))
                {
                    self.note("released", &id);
                }
            }
            if over.load(Ordering::Relaxed) {
                return;
            }
            let body = json!({"reason": format!("{name}-{n}")}).to_string();
            let Some((202, answer)) = ask(socket, "POST", "/api/v1/incidents", &body) else {
                // The pace of asking a server that cannot answer.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let id = answer["incident"].as_str().unwrap().to_owned();
            self.note("accepted", &id);
            let path = format!("/api/v1/incidents/{id}");
            while !over.load(Ordering::Relaxed) {
                if let Some((200, incident)) = ask(socket, "GET", &path, "")
                    && incident["state"] == "sealed"
                {
                    self.note("sealed", &id);
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// The oldest sealed ones, beyond a stock that stays.
    fn to_release(&self) -> Vec<String> {
        let promises = self.promises();
        let stock: Vec<_> = promises.to_be_found().cloned().collect();
        stock[..stock.len().saturating_sub(6).min(2)].to_vec()
    }
}

/// Asks the server; `None` when it gave no whole answer.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let (status, body) = exchange(socket, method, path, body)?;
    if body.is_empty() {
        return Some((status, Value::Null));
    }
    Some((status, serde_json::from_slice(&body).ok()?))
}

/// The same, of anything.
pub(crate) fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).ok()?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

/// Complains unless every promise is kept by the folders of `site`, with no program running.
pub(crate) fn complaints_offline(site: &Site, promises: &Promises) -> Vec<String> {
    let mut complaints = Vec::new();
    let folder = site.incidents();
    let certified = certified(&folder);
    if promises.to_be_found().next().is_some() || !certified.is_empty() {
        let output = site.client(&["--json", "verify", folder.to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| json!({"incidents": [], "said": format!("{output:?}")}));
        for id in promises.to_be_found() {
            let all = report["incidents"].as_array().unwrap();
            match all.iter().find(|one| one["incident"] == id.as_str()) {
                None => complaints.push(format!("{id} was sealed and is gone: {}", report["said"])),
                Some(one) if one["problems"] != json!([]) || one["segments"] == 0 => {
                    complaints.push(format!("{id} was sealed and does not verify: {one}"));
                }
                Some(_) => {}
            }
        }
        // Nobody may have heard of the seal, but it is there.
        for id in certified.difference(&promises.releasing) {
            let all = report["incidents"].as_array().unwrap();
            let one = all.iter().find(|one| one["incident"] == id.as_str());
            if one.is_none_or(|one| one["problems"] != json!([])) && !promises.sealed.contains(id) {
                complaints.push(format!("{id} has a manifest and does not verify: {one:?}"));
            }
        }
    }
    for id in &promises.released {
        if folder.join(id).exists() {
            complaints.push(format!("{id} was released and is back"));
        }
        let tombstone = folder.join(".tombstones").join(format!("{id}.json"));
        let text = std::fs::read(&tombstone).unwrap_or_default();
        if serde_json::from_slice::<Value>(&text).is_err() {
            complaints.push(format!("{id} was released and has no tombstone"));
        }
    }
    complaints
}

/// Incidents that have a manifest: to whoever finds the folder, they are sealed.
fn certified(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join("manifest.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Complains unless the running server knows what it accepted, and has sealed what it had sealed.
pub(crate) fn complaints_online(site: &Site, promises: &mut Promises) -> Vec<String> {
    let Some((200, list)) = ask(&site.socket(), "GET", "/api/v1/incidents", "") else {
        return vec!["the server does not list its incidents".to_owned()];
    };
    let all = list
        .as_array()
        .or_else(|| list["incidents"].as_array())
        .unwrap();
    let state = |id: &str| {
        let found = all.iter().find(|one| one["id"] == id);
        found.and_then(|one| one["state"].as_str())
    };
    let mut complaints = Vec::new();
    for id in promises.to_be_known() {
        match state(id) {
            None => complaints.push(format!("{id} was accepted and is forgotten")),
            Some("sealed") => {}
            Some(other) if promises.sealed.contains(id) => {
                complaints.push(format!("{id} was sealed and is {other}"));
            }
            Some(_) => {}
        }
    }
    // What it tells of now is promised from now on, whether or not its acknowledgement was heard.
    for one in all {
        let id = one["id"].as_str().unwrap().to_owned();
        if promises.releasing.contains(&id) {
            continue;
        }
        if one["state"] == "sealed" {
            promises.sealed.insert(id.clone());
        }
        promises.accepted.insert(id);
    }
    complaints
}
