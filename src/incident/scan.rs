//! What the directories say at start: sealed incidents, those to resume, and what is neither.

use std::fs;
use std::io;
use std::path::Path;

use super::chain;
use super::custody::{TIMELINE_FILE, TimelineLine};
use super::durable;
use super::folder::{Folder, Live};
use super::id::IncidentId;
use super::manifest::{LIVE_FILE, MANIFEST_FILE, Manifest};
use super::reserve::RESERVE_FILE;
use super::seal;
use super::table::Table;
use crate::error::{IoContext, IoError};

/// Where the recorder leaves tombstones, below the incidents' directory.
const TOMBSTONES: &str = ".tombstones";

/// Takes every folder of `evidence` into the table. A folder that cannot be understood is a
/// problem to be shown, never an error.
pub(super) fn scan(evidence: &Path, table: &mut Table) -> Result<(), IoError> {
    for id in tombstones(&evidence.join(TOMBSTONES)) {
        if evidence.join(id.as_str()).exists() {
            // The release was interrupted: nothing of it is to be seen again.
            table.releasing.insert(id.clone(), String::new());
        }
        table.untouchable.insert(id);
    }
    let entries = match fs::read_dir(evidence) {
        // The recorder makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.at("list", evidence)?,
    };
    for entry in entries {
        let path = entry.at("list", evidence)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == TOMBSTONES || name == RESERVE_FILE {
            continue;
        }
        let Ok(id) = name.parse::<IncidentId>() else {
            let what = format!("{}: not a folder of an incident", path.display());
            table.problems.push(what);
            continue;
        };
        if table.untouchable.contains(&id) {
            continue;
        }
        if let Err(what) = take(&path, &id, table) {
            tracing::warn!(path = %path.display(), what, "an incident cannot be read");
            table.problems.push(format!("{}: {what}", path.display()));
        }
    }
    Ok(())
}

/// Folders that neither their own state nor the journal accounts for.
pub(super) fn report_unknown(evidence: &Path, table: &mut Table) {
    let entries = fs::read_dir(evidence).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    for id in names.filter_map(|name| name.parse::<IncidentId>().ok()) {
        if !table.items.contains_key(&id) && !table.untouchable.contains(&id) {
            let path = evidence.join(id.as_str());
            let what = format!("{}: packets without an incident", path.display());
            table.problems.push(what);
        }
    }
}

fn take(path: &Path, id: &IncidentId, table: &mut Table) -> Result<(), String> {
    if !path.is_dir() {
        return Err("not a folder of an incident".to_owned());
    }
    let manifest = path.join(MANIFEST_FILE);
    if !manifest.exists() && durable::temporary(&manifest).exists() {
        // A crash came between the last two steps of a seal.
        let folder = Folder::open(path, id).map_err(|error| error.to_string())?;
        seal::publish(&folder).map_err(|error| error.to_string())?;
    }
    if manifest.exists() {
        return sealed(path, id, table).inspect_err(|_| {
            table.untouchable.insert(id.clone());
        });
    }
    match fs::read(path.join(LIVE_FILE)) {
        Ok(bytes) => {
            // The journal still has everything when this copy is damaged.
            if let Ok(live) = serde_json::from_slice::<Live>(&bytes)
                && live.incident.id == id.as_str()
            {
                table.restore_live(id, live);
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("read {LIVE_FILE}: {error}")),
    }
}

fn sealed(path: &Path, id: &IncidentId, table: &mut Table) -> Result<(), String> {
    let (manifest, _) = Manifest::read(path).map_err(|error| error.to_string())?;
    if manifest.incident.id != id.as_str() {
        return Err(format!(
            "its manifest is that of {:?}",
            manifest.incident.id
        ));
    }
    seal::clean(path);
    let file = path.join(TIMELINE_FILE);
    let timeline = chain::read::<TimelineLine>(&file).map_err(|error| error.to_string())?;
    if let Some(what) = &timeline.broken {
        let problem = format!("{}: {what}; verify the incident", file.display());
        table.problems.push(problem);
    }
    table.restore_sealed(id, manifest, timeline.items);
    Ok(())
}

fn tombstones(directory: &Path) -> Vec<IncidentId> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
        .collect()
}
