//! Sealing: every linked segment is read back from the medium, hashed and measured; then the
//! manifest is written, signed and bound into the custody record.
//!
//! The rename of `manifest.json` is the moment of sealing; everything else is on the medium
//! before it. A crash at any step leaves a folder from which sealing starts over or is finished.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::accounting::{self, Book};
use super::custody::{Act, SEALED, SELF, seal_detail};
use super::durable;
use super::explain::{gaps_of, judge};
use super::folder::{self, Folder, MODE};
use super::manifest::{
    ALLOWED_SIGNERS_FILE, AccountingEntry, ClockState, LIVE_FILE, MANIFEST_FILE, Manifest,
    SEGMENTS_DIR, SIGNATURE_FILE, SUMS_FILE, SegmentEntry,
};
use super::measure::{Facts, Measured, measure};
use super::members::{Part, combine};
use super::model::{Completeness, InterfaceShare};
use super::readback::Reader;
use super::sshsig::{PUBLIC_KEY_FILE, PublicKey, Signer25519};
use crate::error::IoError;
use crate::pcapng::decode::Block;
use crate::pcapng::isb::Sample;
use crate::pcapng::stream::{Blocks, Next};
use crate::recorder::protocol::InterfaceStatus;
use crate::recorder::sync::{self, Site};
use crate::ring::catalog::{Catalog, SegmentFile};
use crate::ring::{names, reader};
use crate::time::{Timestamp, Window};

/// What reading back told.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) segments: Vec<SegmentEntry>,
    pub(super) accounting: Vec<AccountingEntry>,
    pub(super) interfaces: Vec<InterfaceShare>,
    pub(super) completeness: Completeness,
}

impl Inspected {
    /// From the first to the last recorded instant of the window, over all interfaces.
    pub(super) fn covered(&self) -> Option<Window> {
        let covered = self.interfaces.iter().filter_map(|share| share.covered);
        covered.reduce(|all, one| all.union(&one))
    }
}

/// The opening of a linked segment that the recorder still writes to. One that was opened just
/// behind the window's end may be linked as well; it has to be sealed before it is hashed.
pub(super) fn unfinished(folder: &Path, ring: &Path) -> Result<Option<Timestamp>, IoError> {
    let mut latest = None;
    for (folder_name, files) in folder::segments(folder)? {
        let Some(last) = files.last() else { continue };
        let catalog = Catalog::scan(&ring.join(&folder_name))?;
        let newest = catalog.segments().last().map(|segment| segment.name);
        let open = || last_sample(&last.path).is_none_or(|sample| !sample.last);
        if newest == Some(last.name) && open() {
            latest = latest.max(Some(last.name.first));
        }
    }
    Ok(latest)
}

/// Reads back everything linked for an incident. `recorded` are the interfaces the recorder is
/// configured for, so that one without any segment is missed.
pub(super) fn inspect(
    folder: &Path,
    ring: &Path,
    window: &Window,
    recorded: &[InterfaceStatus],
    clock: &ClockState,
    stop: &CancellationToken,
) -> Result<Inspected, IoError> {
    let mut interfaces = by_interface(folder::segments(folder)?);
    for interface in recorded {
        let first = names::folder_name(&interface.name);
        interfaces
            .entry(interface.name.clone())
            .or_insert_with(|| vec![(0, first, Vec::new())]);
    }
    let mut entries = Vec::new();
    let mut measured: Vec<Measured> = Vec::new();
    let mut gaps = Vec::new();
    let mut books: Vec<Book> = Vec::new();
    for (interface, folders) in interfaces {
        let mut parts = Vec::new();
        for (index, folder_name, files) in folders {
            let mut segments = Vec::new();
            for file in &files {
                if stop.is_cancelled() {
                    let stopping =
                        io::Error::new(io::ErrorKind::Interrupted, "the server is stopping");
                    return Err(IoError::new("read back", folder, stopping));
                }
                let (entry, fact) = read_back(file, &folder_name, &interface, window)?;
                entries.push(entry);
                segments.push(fact);
            }
            let home = ring.join(&folder_name);
            let first = segments.first();
            let before = first.and_then(|first| sample_before(&home, first));
            let measured = measure(&interface, &segments, before, window);
            books.extend(accounting::copy(
                folder,
                &home,
                &folder_name,
                &interface,
                window,
                &measured.holes,
            )?);
            parts.push(Part {
                index,
                segments,
                measured,
            });
        }
        measured.extend(combine(parts, window));
        gaps.extend(gaps_of(ring, &interface));
    }
    let mut completeness = judge(window, &measured, &gaps, clock);
    completeness.reasons.extend(accounting::reasons(&books));
    if clock.synchronised {
        let was_not = accounting::unsynchronised(&books);
        completeness.reasons.extend(was_not);
    }
    Ok(Inspected {
        segments: entries,
        accounting: books.into_iter().map(|book| book.entry).collect(),
        completeness,
        interfaces: measured.into_iter().map(|m| m.share).collect(),
    })
}

/// A linked folder: which capture thread's, its name, its segments.
type Linked = (u32, String, Vec<SegmentFile>);

/// The linked folders by interface, each interface's in the order of its capture threads.
fn by_interface(linked: Vec<(String, Vec<SegmentFile>)>) -> BTreeMap<String, Vec<Linked>> {
    let mut interfaces: BTreeMap<String, Vec<Linked>> = BTreeMap::new();
    for (folder, files) in linked {
        let parsed = names::parse_folder(&folder);
        let (interface, index) = parsed.unwrap_or_else(|| (folder.clone(), 0));
        let folders = interfaces.entry(interface).or_default();
        folders.push((index, folder, files));
    }
    for folders in interfaces.values_mut() {
        folders.sort_by_key(|(index, ..)| *index);
    }
    interfaces
}

/// Reads one segment from the medium: its digest and its facts come from the same bytes.
fn read_back(
    file: &SegmentFile,
    folder_name: &str,
    interface: &str,
    window: &Window,
) -> Result<(SegmentEntry, Facts), IoError> {
    let mut entry = SegmentEntry {
        path: format!("{SEGMENTS_DIR}/{folder_name}/{}", file.name),
        interface: interface.to_owned(),
        size_bytes: file.bytes,
        sha256: String::new(),
        read_direct: false,
        packets: 0,
        window_packets: 0,
        window_bytes: 0,
        first: None,
        last: None,
        damage: None,
    };
    let mut facts = Facts {
        name: file.name,
        samples: Vec::new(),
        packets: 0,
        window_packets: 0,
        window_bytes: 0,
        cut_packets: 0,
        first: None,
        last: None,
        filter: String::new(),
        threads: 1,
        damage: None,
    };
    let digested = Reader::open(&file.path).and_then(|mut reader| {
        gather(&mut Blocks::new(&mut reader), window, &mut facts);
        reader
            .finish()
            .map_err(|error| IoError::new("read", &file.path, error))
    });
    match digested {
        Ok(digested) => {
            entry.size_bytes = digested.size_bytes;
            entry.sha256 = digested.sha256;
            entry.read_direct = digested.direct;
        }
        // The medium lost it: said so in the manifest, never certified. Other errors (rights,
        // memory) are mended by people, and sealing is tried again.
        Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            facts.damage = Some(format!("it cannot be read back: {error}"));
        }
        Err(error) => return Err(error),
    }
    entry.packets = facts.packets;
    entry.window_packets = facts.window_packets;
    entry.window_bytes = facts.window_bytes;
    entry.first = facts.first;
    entry.last = facts.last;
    entry.damage.clone_from(&facts.damage);
    Ok((entry, facts))
}

/// Goes through a segment's blocks.
fn gather<R: io::Read>(blocks: &mut Blocks<R>, window: &Window, facts: &mut Facts) {
    let damage = loop {
        match blocks.next() {
            Ok(Next::Block(block)) => take(&block, window, facts),
            Ok(Next::End) => break None,
            Ok(Next::Torn { offset }) => break Some(format!("it is torn at byte {offset}")),
            Err(error) => break Some(format!("at byte {}: {error}", blocks.offset())),
        }
    };
    facts.damage = damage;
    if let Some(filter) = blocks.interfaces().iter().find_map(|i| i.filter.clone()) {
        facts.filter = filter;
    }
    let described = blocks.interface(0).and_then(|i| i.description.as_deref());
    facts.threads = names::Member::described(described.unwrap_or_default()).of;
}

fn take(block: &Block<'_>, window: &Window, facts: &mut Facts) {
    match block {
        Block::Packet(packet) => {
            facts.packets += 1;
            let first = facts.first.get_or_insert(packet.at);
            *first = packet.at.min(*first);
            facts.last = facts.last.max(Some(packet.at));
            if window.contains(packet.at) {
                let length = packet.data.len() as u64;
                facts.window_packets += 1;
                facts.window_bytes += length;
                facts.cut_packets += u64::from(u64::from(packet.orig_len) > length);
            }
        }
        Block::Statistics(statistics) => facts.samples.extend(statistics.sample()),
        _ => {}
    }
}

/// The last counters of the segment before `first`, if the ring still has it.
fn sample_before(home: &Path, first: &Facts) -> Option<Sample> {
    let number = first.name.number.checked_sub(1)?;
    let catalog = Catalog::scan(home).ok()?;
    let mut segments = catalog.segments().iter();
    last_sample(&segments.find(|s| s.name.number == number)?.path)
}

fn last_sample(path: &Path) -> Option<Sample> {
    let mut blocks = Blocks::new(reader::open(path).ok()?);
    let mut last = None;
    while let Ok(Next::Block(block)) = blocks.next() {
        if let Block::Statistics(statistics) = block {
            last = statistics.sample().or(last);
        }
    }
    last
}

/// Writes everything of the seal but its last step: the manifest under its temporary name, its
/// signature, `SHA256SUMS`, the keys, and the line in the custody record.
pub(super) fn prepare(
    folder: &mut Folder,
    manifest: &Manifest,
    signer: &Signer25519,
) -> Result<(), IoError> {
    let path = folder.path().join(MANIFEST_FILE);
    let mut bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|error| IoError::new("encode", &path, error.into()))?;
    bytes.push(b'\n');
    let signature = signer.sign(&bytes);
    let key = signer.public();
    let put = |name: &str, content: &str| {
        let path = folder.path().join(name);
        durable::put(&path, content.as_bytes(), MODE, Site::SealFile)
    };
    put(SIGNATURE_FILE, &signature)?;
    put(PUBLIC_KEY_FILE, &key.line())?;
    put(ALLOWED_SIGNERS_FILE, &key.allowed_signers())?;
    put(SUMS_FILE, &sums(manifest, &bytes, &signature, &key))?;
    durable::write_synced(&durable::temporary(&path), &bytes, MODE, Site::ManifestData)?;
    let detail = seal_detail(&hex::encode(Sha256::digest(&bytes)));
    folder.note(Act::new(SELF, SEALED, &detail))?;
    // Before the manifest gets its name, and once for all of them.
    sync::folder(folder.path(), Site::SealName)
}

/// The last step of the seal. Also finishes one that a crash interrupted; `false` when there is
/// none to finish.
pub(super) fn publish(folder: &Folder) -> Result<bool, IoError> {
    let path = folder.path().join(MANIFEST_FILE);
    let tmp = durable::temporary(&path);
    let prepared = fs::read(&tmp).is_ok_and(|bytes| {
        folder.seal.as_deref() == Some(&seal_detail(&hex::encode(Sha256::digest(bytes))))
    });
    if !prepared {
        return Ok(false);
    }
    durable::rename(&tmp, &path, Site::ManifestName)?;
    clean(folder.path());
    Ok(true)
}

/// Removes what only an unsealed incident needs.
pub(super) fn clean(folder: &Path) {
    let path = folder.join(LIVE_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the live state");
        }
        _ => {}
    }
}

/// `SHA256SUMS`, wholly determined by what it lists.
pub(super) fn sums(manifest: &Manifest, bytes: &[u8], signature: &str, key: &PublicKey) -> String {
    let mut lines = String::new();
    let mut line = |sum: &str, name: &str| {
        lines.push_str(sum);
        lines.push_str("  ");
        lines.push_str(name);
        lines.push('\n');
    };
    for (name, content) in [
        (ALLOWED_SIGNERS_FILE, key.allowed_signers().as_bytes()),
        (MANIFEST_FILE, bytes),
        (SIGNATURE_FILE, signature.as_bytes()),
        (PUBLIC_KEY_FILE, key.line().as_bytes()),
    ] {
        line(&hex::encode(Sha256::digest(content)), name);
    }
    for segment in manifest.segments.iter().filter(|s| !s.sha256.is_empty()) {
        line(&segment.sha256, &segment.path);
    }
    for accounting in &manifest.accounting {
        line(&accounting.sha256, &accounting.path);
    }
    lines
}
