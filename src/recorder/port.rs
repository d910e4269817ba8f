//! Start-up of one interface: its folders, their recovery, and its capture threads; and its status.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use sha2::{Digest, Sha256};

use crate::counters::Counters;
use crate::error::{IoContext, IoError};
use crate::recorder::budget::Budget;
use crate::recorder::doubts;
use crate::recorder::fanout::Group;
use crate::recorder::gaps::GapLog;
use crate::recorder::member::{Common, Member, Parts};
use crate::recorder::open::is_loopback;
use crate::recorder::priority;
use crate::recorder::protocol::{Gap, GapCause, InterfaceState, InterfaceStatus};
use crate::recorder::recovery::{Lost, Recovered, recover};
use crate::recorder::service::{RecorderConfig, StartError};
use crate::recorder::shared::{Shared, StateSince};
use crate::recorder::slots::Slots;
use crate::recorder::store::{Store, unlink_unsealed};
use crate::recorder::sync;
use crate::recorder::watch;
use crate::ring::catalog::Catalog;
use crate::ring::names::{self, SegmentName, member_folder};
use crate::time::Timestamp;

/// One interface: its capture threads, and what earlier threads left.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) members: Vec<Member>,
    pub(super) budget: Arc<Budget>,
    foreign: u64,
}

/// A folder of the interface, made whole.
struct Found {
    index: u32,
    folder: PathBuf,
    slot_path: PathBuf,
    recovered: Recovered,
    gaps: GapLog,
}

impl Port {
    /// Recovers every folder of the interface, configured or left over, and begins to record.
    pub(super) fn start(
        name: &str,
        config: &RecorderConfig,
        stopped: &Receiver<()>,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StartError> {
        let threads = threads(name, config);
        let now = Timestamp::now();
        let slots = slot_folder(config)?;
        let mut found = Vec::new();
        for index in folders(name, threads, &config.ring.path, &slots)? {
            found.push(find(name, index, config, &slots, now)?);
        }
        note_pause(name, &mut found, now)?;
        let stores: Vec<_> = found
            .iter()
            .map(|one| {
                let folder = member_folder(name, one.index);
                let catalog = &one.recovered.catalog;
                Arc::new(Store::new(
                    &config.ring.path,
                    &folder,
                    &config.incidents,
                    catalog,
                ))
            })
            .collect();
        let size = config.ring.size.as_u64();
        let budget = Arc::new(Budget::new(stores.clone(), threads, size));
        let foreign = found.iter().map(|one| one.recovered.foreign).sum();
        let (mut members, mut handles) = (Vec::new(), Vec::new());
        let common = Common {
            name,
            config,
            group: Arc::new(Group::new(name, threads)),
            budget: Arc::clone(&budget),
            stopped,
            start: now,
        };
        let mut prepared = Vec::new();
        for (one, store) in found.into_iter().zip(stores) {
            if one.index >= threads {
                leave_over(name, &one, &store);
                continue;
            }
            let place = names::Member {
                index: one.index,
                of: threads,
            };
            let parts = Parts {
                store,
                slot_path: one.slot_path,
                gaps: one.gaps,
                until: one.recovered.until,
            };
            prepared.push(Member::prepare(&common, place, parts)?);
        }
        let shared: Vec<_> = prepared
            .iter()
            .map(|(member, ..)| Arc::clone(&member.shared))
            .collect();
        watch::look(&shared);
        for (member, capturer, pump, keeper) in prepared {
            let folder = member.store.folder();
            let threads = [
                spawn("capture", move || capturer.run()),
                spawn("pump", move || {
                    priority::wait_behind_capture();
                    pump.run();
                }),
                spawn("keeper", move || {
                    priority::wait_behind_capture();
                    keeper.run();
                }),
            ];
            for thread in threads {
                handles.push(thread.at("start a thread for", folder)?);
            }
            members.push(member);
        }
        let port = Self {
            name: name.to_owned(),
            members,
            budget,
            foreign,
        };
        Ok((port, handles))
    }

    /// What its capture threads tell others.
    pub(super) fn shared(&self) -> Vec<Arc<Shared>> {
        let members = self.members.iter();
        members.map(|member| Arc::clone(&member.shared)).collect()
    }

    /// The threads as one interface: what one of them does not do, the interface does not.
    pub(super) fn status(&self, filter: &str, snaplen: u32) -> InterfaceStatus {
        let states: Vec<_> = self.members.iter().map(|m| m.shared.state()).collect();
        let troubled = states.iter().find(|s| s.state != InterfaceState::Running);
        let state = troubled.or(states.first()).cloned();
        let state = state.unwrap_or_else(StateSince::absent);
        let holding = self.budget.holding();
        let rates = self.members.iter().map(|member| member.shared.rates());
        let (packets_per_second, bytes_per_second) =
            rates.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let counters = self.members.iter().map(|m| m.shared.counters());
        let durable = self.members.iter().filter_map(|m| m.shared.durable());
        let free: usize = self.members.iter().map(|member| member.free.len()).sum();
        InterfaceStatus {
            name: self.name.clone(),
            state: state.state,
            why: state.why,
            since: state.since,
            counters: counters
                .map(consistent)
                .fold(Counters::default(), |sum, one| sum.plus(&one)),
            packets_per_second,
            bytes_per_second,
            longest_gap_ns: self
                .members
                .iter()
                .map(|m| m.shared.longest_gap_ns())
                .max()
                .unwrap_or(0),
            ring_from: holding.from,
            ring_to: durable.min(),
            ring_bytes: holding.bytes,
            ring_size_bytes: self.budget.size_bytes(),
            ring_segments: holding.segments,
            slots_free: u64::try_from(free).unwrap_or(0),
            slots: self.members.iter().map(|member| member.slots).sum(),
            disk_error: self.members.iter().find_map(|m| m.shared.disk_error()),
            accounting_error: self
                .members
                .iter()
                .find_map(|m| m.shared.accounting_error()),
            filter: filter.to_owned(),
            snaplen,
            foreign_files: self.foreign,
        }
    }
}

/// `received` is asked of the kernel once a second, `written` is counted as it happens.
fn consistent(mut counters: Counters) -> Counters {
    let accounted = counters.written + counters.dropped_ring + counters.dropped_kernel;
    counters.received = counters.received.max(accounted);
    counters
}

/// How many threads capture the interface.
fn threads(name: &str, config: &RecorderConfig) -> u32 {
    let wanted = config.capture.threads.max(1);
    if wanted > 1 && (config.replay.is_some() || is_loopback(name)) {
        tracing::info!(
            interface = name,
            "capture.threads does not count for loopback and replay: one thread captures"
        );
        return 1;
    }
    wanted
}

/// The interface's folders by their threads: those configured, and any that hold what earlier ones
/// recorded, on disk or still in their slots.
fn folders(name: &str, threads: u32, ring: &Path, slots: &Path) -> Result<Vec<u32>, IoError> {
    let mut all: BTreeSet<u32> = (0..threads).collect();
    for root in [ring, slots] {
        for entry in fs::read_dir(root).at("list", root)? {
            let entry = entry.at("list", root)?.file_name();
            let folder = entry.to_str().unwrap_or_default();
            let folder = folder.strip_suffix(".slots").unwrap_or(folder);
            let parsed = names::parse_folder(folder);
            all.extend(parsed.and_then(|(of, index)| (of == name).then_some(index)));
        }
    }
    Ok(all.into_iter().collect())
}

/// Makes a folder of the interface whole.
fn find(
    name: &str,
    index: u32,
    config: &RecorderConfig,
    slots: &Path,
    now: Timestamp,
) -> Result<Found, IoError> {
    let folder_name = member_folder(name, index);
    let folder = config.ring.path.join(&folder_name);
    make_root(&folder, config.group, 0o2750)?;
    let slot_path = slots.join(format!("{folder_name}.slots"));
    let (recovered, gaps) = with_room(&folder, || {
        let in_doubt = doubts::settle(&slot_path, &folder)?;
        for &lost in &in_doubt {
            unlink_unsealed(&config.incidents, &folder_name, lost);
        }
        let mut recovered = recover_folder(&folder, &slot_path, name)?;
        let in_doubt = in_doubt.iter().map(|lost| gone(*lost, &recovered.catalog));
        let in_doubt: Vec<Lost> = in_doubt.collect();
        recovered.lost.extend(in_doubt);
        let mut gaps = open_gaps(&folder, &recovered, now)?;
        for lost in &recovered.lost {
            gaps.append(&Gap {
                interface: name.to_owned(),
                from: lost.from,
                to: lost.to.unwrap_or(now),
                cause: GapCause::DiskFailed,
            })?;
        }
        doubts::settled(&slot_path)?;
        Ok((recovered, gaps))
    })?;
    Ok(Found {
        index,
        folder,
        slot_path,
        recovered,
        gaps,
    })
}

/// What a segment stood for that is not in the ring any more.
fn gone(name: SegmentName, catalog: &Catalog) -> Lost {
    let mut later = catalog.segments().iter().map(|segment| segment.name);
    Lost {
        from: name.first,
        to: later
            .find(|next| next.number > name.number)
            .map(|next| next.first),
    }
}

/// Puts the time in which no recorder ran on record, once for the interface.
fn note_pause(name: &str, found: &mut [Found], now: Timestamp) -> Result<(), IoError> {
    let Some(from) = recorded_until(found) else {
        return Ok(());
    };
    let gap = Gap {
        interface: name.to_owned(),
        from,
        to: now,
        cause: GapCause::RecorderDown,
    };
    match found.first_mut() {
        Some(first) => with_room(&first.folder, || first.gaps.append(&gap)),
        None => Ok(()),
    }
}

/// A folder of a thread that is not configured any more: its slots are recovered and not needed.
fn leave_over(name: &str, found: &Found, store: &Store) {
    let holding = store.holding();
    if holding.segments > 0 {
        tracing::info!(
            interface = name,
            folder = %found.folder.display(),
            segments = holding.segments,
            bytes = holding.bytes,
            "of a capture thread that is not configured any more: kept until it is the oldest"
        );
    }
    drop(fs::remove_file(&found.slot_path));
}

/// How long gaps stay on record after their packets were rotated away: an incident that was opened
/// meanwhile still needs them.
const GAPS_KEPT: Duration = Duration::from_hours(7 * 24);

/// Opens the record of gaps of a folder.
fn open_gaps(folder: &Path, recovered: &Recovered, now: Timestamp) -> Result<GapLog, IoError> {
    let oldest = recovered
        .catalog
        .segments()
        .first()
        .map_or(now, |segment| segment.name.first);
    GapLog::open(folder, oldest.min(now).minus(GAPS_KEPT))
}

/// Up to when the interface is known to be recorded: by every thread of the recorder's last run.
fn recorded_until(found: &[Found]) -> Option<Timestamp> {
    let run = found.iter().filter_map(|one| one.recovered.run).max();
    let last = found.iter().filter(|one| one.recovered.run == run);
    last.filter_map(|one| one.recovered.until).min()
}

/// Repeats `work` on a full disk, giving up the oldest segment each time: a recorder that cannot
/// start records nothing at all. The newest segment is never given up.
fn with_room<T>(folder: &Path, mut work: impl FnMut() -> Result<T, IoError>) -> Result<T, IoError> {
    loop {
        let error = match work() {
            Err(error) if error.is_full() => error,
            result => return result,
        };
        let catalog = Catalog::scan(folder)?;
        let [oldest, _, ..] = catalog.segments() else {
            return Err(error);
        };
        tracing::warn!(segment = %oldest.path.display(), "disk full: the oldest segment was given up");
        fs::remove_file(&oldest.path).at("give up", &oldest.path)?;
    }
}

fn recover_folder(folder: &Path, slot_path: &Path, name: &str) -> Result<Recovered, IoError> {
    let mut old = Slots::open(slot_path)?;
    let leftovers = old.as_mut().map(Slots::leftovers).unwrap_or_default();
    let recovered = recover(folder, &leftovers)?;
    if recovered.replayed_bytes + recovered.cut_bytes > 0 {
        tracing::info!(
            interface = name,
            replayed_bytes = recovered.replayed_bytes,
            cut_bytes = recovered.cut_bytes,
            "recovered the ring"
        );
    }
    Ok(recovered)
}

/// A thread whose panic ends the process: a recorder that records half is worse than one that is
/// started again and recovers.
pub(super) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                tracing::error!("recorder thread panicked; aborting so that a fresh one recovers");
                std::process::abort();
            }
        })
}

/// Makes a folder of ours, readable by the server's group, which its content inherits.
pub(super) fn make_root(path: &Path, group: Option<u32>, mode: u32) -> Result<(), IoError> {
    sync::make_folders(path, 0o755)?;
    let metadata = fs::metadata(path).at("stat", path)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let error = std::io::Error::other("belongs to another user; the recorder must own it");
        return Err(IoError::new("use", path, error));
    }
    if let Some(group) = group.filter(|group| *group != metadata.gid()) {
        std::os::unix::fs::chown(path, None, Some(group)).at("chgrp", path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("chmod", path)
}

/// Where the slots are: in a 0700 folder of this user, named after the ring.
fn slot_folder(config: &RecorderConfig) -> Result<PathBuf, IoError> {
    let ring = fs::canonicalize(&config.ring.path).at("resolve", &config.ring.path)?;
    let digest = hex::encode(Sha256::digest(ring.as_os_str().as_encoded_bytes()));
    let short = digest.get(..16).unwrap_or(&digest);
    let uid = rustix::process::geteuid().as_raw();
    let folder = config.ring.slots.join(format!("wirewitness-{uid}-{short}"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .at("create", &folder)?;
    let metadata = fs::symlink_metadata(&folder).at("stat", &folder)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
        let error = std::io::Error::other("is not a private folder of this user; remove it");
        return Err(IoError::new("use", &folder, error));
    }
    Ok(folder)
}
