//! Whether sealed evidence is what it was: sizes, hashes, chains, signature.
//!
//! Needs nothing but the folder. A folder that was rewritten as a whole and signed anew with
//! another key is consistent in itself: compare [`Verified::signed_by`] with a copy of the public
//! key that was kept elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::accounting::{self, ACCOUNTING_DIR};
use super::chain::{self, Chain};
use super::custody::{Act, CUSTODY_FILE, OPENED, SEALED, TIMELINE_FILE, TimelineLine, seal_detail};
use super::id::IncidentId;
use super::manifest::{
    ALLOWED_SIGNERS_FILE, ChainHead, MANIFEST_FILE, Manifest, SEGMENTS_DIR, SIGNATURE_FILE,
    SUMS_FILE,
};
use super::readback::digest_cached;
use super::seal::sums;
use super::sshsig::{self, PUBLIC_KEY_FILE, PublicKey};
use crate::error::{IoContext, IoError};

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The path cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// There is nothing sealed there.
    #[error(
        "{} holds no sealed incident: give the folder of one (with manifest.json in it) or the \
         directory of all",
        path.display()
    )]
    Nothing {
        /// The path.
        path: PathBuf,
    },
}

/// Something that is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, within the incident's folder.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// The result for one incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The incident, as its folder is named.
    pub incident: String,
    /// Segments that were hashed.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The fingerprint of the key that signed it.
    pub signed_by: Option<String>,
    /// What is wrong; empty when it verifies.
    pub problems: Vec<Problem>,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// One entry per sealed incident.
    pub incidents: Vec<Verified>,
    /// Folders that are not sealed and therefore were not verified.
    pub skipped: Vec<String>,
}

impl VerifyReport {
    /// Whether everything verifies.
    pub fn is_ok(&self) -> bool {
        self.incidents.iter().all(|one| one.problems.is_empty())
    }
}

/// Verifies an incident's folder, or all in the directory of incidents.
pub fn verify(path: &Path) -> Result<VerifyReport, VerifyError> {
    let mut report = VerifyReport {
        incidents: Vec::new(),
        skipped: Vec::new(),
    };
    if sealed(path) {
        report.incidents.push(one(path));
        return Ok(report);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).at("list", path)? {
        folders.push(entry.at("list", path)?.path());
    }
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        if sealed(folder) {
            report.incidents.push(one(folder));
        } else if name(folder).parse::<IncidentId>().is_ok() && name(path) != SEGMENTS_DIR {
            report.skipped.push(name(folder));
        }
    }
    if report.incidents.is_empty() {
        let path = path.to_owned();
        return Err(VerifyError::Nothing { path });
    }
    Ok(report)
}

/// Whether the folder was ever sealed: also one whose manifest was taken away.
fn sealed(folder: &Path) -> bool {
    [MANIFEST_FILE, SIGNATURE_FILE, SUMS_FILE]
        .iter()
        .any(|file| folder.join(file).exists())
        && (folder.join(MANIFEST_FILE).exists()
            || !folder.join(super::manifest::LIVE_FILE).exists())
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Collects problems by file.
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, file: &str, what: impl fmt::Display) {
        self.0.push(Problem {
            file: file.to_owned(),
            what: format!("{what}"),
        });
    }
}

fn one(folder: &Path) -> Verified {
    let mut found = Findings(Vec::new());
    let mut verified = Verified {
        incident: name(folder),
        segments: 0,
        bytes: 0,
        signed_by: None,
        problems: Vec::new(),
    };
    let custody = chain_of::<Act>(folder, CUSTODY_FILE, &mut found);
    let timeline = chain_of::<TimelineLine>(folder, TIMELINE_FILE, &mut found);
    match Manifest::read(folder) {
        Ok((manifest, bytes)) => {
            let key = signature(folder, &manifest, &bytes, &mut found);
            verified.signed_by = key.as_ref().map(PublicKey::fingerprint);
            segments(folder, &manifest, &mut verified, &mut found);
            accounts(folder, &manifest, &mut found);
            if let Some(custody) = custody {
                custody_fits(&custody, &manifest, &bytes, &mut found);
            }
            if let Some(timeline) = timeline {
                holds(&timeline, &manifest.timeline, TIMELINE_FILE, &mut found);
            }
        }
        Err(error) => found.add(MANIFEST_FILE, error),
    }
    verified.problems = found.0;
    verified
}

fn chain_of<T: serde::de::DeserializeOwned>(
    folder: &Path,
    file: &str,
    found: &mut Findings,
) -> Option<Chain<T>> {
    match chain::read::<T>(&folder.join(file)) {
        Ok(chain) => {
            if let Some(what) = &chain.broken {
                found.add(file, what);
            }
            Some(chain)
        }
        Err(error) => {
            found.add(file, error);
            None
        }
    }
}

/// Checks the signature and the files that are wholly determined by it.
fn signature(
    folder: &Path,
    manifest: &Manifest,
    bytes: &[u8],
    found: &mut Findings,
) -> Option<PublicKey> {
    let mut text = |file: &str| {
        let text = fs::read_to_string(folder.join(file));
        text.map_err(|error| found.add(file, error)).ok()
    };
    let armoured = text(SIGNATURE_FILE);
    let determined = [ALLOWED_SIGNERS_FILE, PUBLIC_KEY_FILE, SUMS_FILE].map(|f| (f, text(f)));
    let armoured = armoured?;
    let key = match sshsig::check(&armoured, bytes) {
        Ok(key) => key,
        Err(what) => {
            let what = format!("the signature over {MANIFEST_FILE} does not hold: {what}");
            found.add(SIGNATURE_FILE, what);
            return None;
        }
    };
    if key.fingerprint() != manifest.signed_by {
        found.add(
            SIGNATURE_FILE,
            "it was made with another key than the manifest names",
        );
    }
    let expected = [
        key.allowed_signers(),
        key.line(),
        sums(manifest, bytes, &armoured, &key),
    ];
    for ((file, text), expected) in determined.into_iter().zip(expected) {
        if text.is_some_and(|text| text != expected) {
            found.add(file, "its content was altered");
        }
    }
    Some(key)
}

fn segments(folder: &Path, manifest: &Manifest, verified: &mut Verified, found: &mut Findings) {
    let mut expected = BTreeSet::new();
    for segment in &manifest.segments {
        expected.insert(segment.path.clone());
        if segment.sha256.is_empty() {
            let what = segment
                .damage
                .as_deref()
                .unwrap_or("it was never certified");
            found.add(&segment.path, what);
            continue;
        }
        // The path stands in a file anybody may have written: it must not leave the folder.
        if !plain(&segment.path) {
            found.add(
                MANIFEST_FILE,
                format!("{:?} is no segment's path", segment.path),
            );
            continue;
        }
        match digest_cached(&folder.join(&segment.path)) {
            Ok((size, _)) if size != segment.size_bytes => {
                let what = format!("{size} bytes long, sealed with {}", segment.size_bytes);
                found.add(&segment.path, what);
            }
            Ok((_, sha256)) if sha256 != segment.sha256 => {
                found.add(
                    &segment.path,
                    "its content was altered: the SHA-256 differs",
                );
            }
            Ok((size, _)) => {
                verified.segments += 1;
                verified.bytes += size;
            }
            Err(error) => found.add(&segment.path, error),
        }
    }
    for extra in files(folder, SEGMENTS_DIR) {
        if !expected.contains(&extra) {
            found.add(&extra, "it was not there when the incident was sealed");
        }
    }
}

fn accounts(folder: &Path, manifest: &Manifest, found: &mut Findings) {
    let mut expected = BTreeSet::new();
    for entry in &manifest.accounting {
        expected.insert(entry.path.clone());
        if !accounting::plain(&entry.path) {
            let what = format!("{:?} is no path of the accounting", entry.path);
            found.add(MANIFEST_FILE, what);
            continue;
        }
        match digest_cached(&folder.join(&entry.path)) {
            Ok((size, sha256)) if (size, &sha256) != (entry.size_bytes, &entry.sha256) => {
                found.add(&entry.path, "its content was altered: the SHA-256 differs");
            }
            Ok(_) => {}
            Err(error) => found.add(&entry.path, error),
        }
    }
    for extra in files(folder, ACCOUNTING_DIR) {
        if !expected.contains(&extra) {
            found.add(&extra, "it was not there when the incident was sealed");
        }
    }
}

fn plain(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some(SEGMENTS_DIR)
        && parts.clone().count() == 2
        && parts.all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Every file below `folder/below`, as paths from `folder`.
fn files(folder: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![below.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(folder.join(&directory))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn custody_fits(custody: &Chain<Act>, manifest: &Manifest, bytes: &[u8], found: &mut Findings) {
    let id = manifest.incident.id.as_str();
    let bound = |act: &Act| act.action == OPENED && act.detail == id;
    if !custody.items.first().is_some_and(bound) {
        found.add(
            CUSTODY_FILE,
            format!("it does not begin with incident {id}"),
        );
    }
    holds(custody, &manifest.custody, CUSTODY_FILE, found);
    let seal = custody.items.iter().rfind(|act| act.action == SEALED);
    let expected = seal_detail(&hex::encode(Sha256::digest(bytes)));
    match seal {
        Some(act) if act.detail == expected => {}
        Some(_) => found.add(MANIFEST_FILE, "it is not the one the custody record sealed"),
        None => found.add(CUSTODY_FILE, "it has no line that seals the incident"),
    }
}

/// Whether the chain goes through the head that the manifest names.
fn holds<T>(chain: &Chain<T>, head: &ChainHead, file: &str, found: &mut Findings) {
    let last = usize::try_from(head.lines)
        .ok()
        .and_then(|n| n.checked_sub(1));
    let there = match last {
        Some(last) => chain.hashes.get(last) == Some(&head.hash),
        None => true,
    };
    if !there && chain.broken.is_none() {
        let what = format!(
            "it does not hold the {} lines the incident was sealed with",
            head.lines
        );
        found.add(file, what);
    }
}
