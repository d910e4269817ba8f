//! One folder of the ring as files, and the pins that keep some of them: the only place where
//! segments are linked and unlinked. What must go is for [`crate::recorder::budget`] to say.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{IoContext, IoError};
use crate::recorder::order::DISORDER;
use crate::recorder::protocol::PinnedSegment;
use crate::recorder::recovery;
use crate::recorder::shared::lock;
use crate::recorder::sync::{self, Site};
use crate::ring::catalog::{Catalog, covering};
use crate::ring::names::SegmentName;
use crate::time::{Timestamp, Window};

/// What one capture thread records, or once recorded. Shared by the interface's keepers and the
/// control socket.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    folder_name: String,
    incidents: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: VecDeque<(SegmentName, u64)>,
    bytes: u64,
    /// Number of the newest segment ever counted.
    counted: Option<u64>,
    /// The segment being written, if it is visible.
    active: Option<SegmentName>,
    /// Files made and not visible yet, with the room they take.
    hidden: Vec<(SegmentName, u64)>,
    pins: Vec<Pin>,
    /// Pins whose folders have their names on the medium, by our own doing: a predecessor may have been
    /// killed between making them and that.
    rooted: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Pin {
    id: String,
    window: Window,
}

/// Packets may be out of order by a little (several receive queues, several processors): a pin
/// looks this far beyond its window for segments.
const SLACK: Duration = DISORDER;

/// What a file system may claim to have and yet refuse.
const ROOM_SLACK: u64 = 16 << 20;

impl Pin {
    fn new(id: &str, window: Window) -> Self {
        let window = Window::new(window.from.minus(SLACK), window.to.plus(SLACK));
        Self {
            id: id.to_owned(),
            window,
        }
    }

    /// Whether a segment to come may hold packets of the window.
    fn reaches(&self, name: SegmentName) -> bool {
        name.first < self.window.to
    }
}

/// What the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// First packet of the oldest segment.
    pub from: Option<Timestamp>,
    /// Whether there were segments before that one.
    pub rotated: bool,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
}

impl Store {
    /// The folder `folder_name` under `ring`, with what `catalog` says is there.
    pub fn new(ring: &Path, folder_name: &str, incidents: &Path, catalog: &Catalog) -> Self {
        let segments: VecDeque<_> = catalog
            .segments()
            .iter()
            .map(|s| (s.name, s.bytes))
            .collect();
        let state = State {
            counted: segments.back().map(|(name, _)| name.number),
            segments,
            bytes: catalog.bytes(),
            ..State::default()
        };
        Self {
            folder: ring.join(folder_name),
            folder_name: folder_name.to_owned(),
            incidents: incidents.to_owned(),
            state: Mutex::new(state),
        }
    }

    /// Where its segments are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn holding(&self) -> Holding {
        let state = lock(&self.state);
        Holding {
            from: state.segments.front().map(|(name, _)| name.first),
            rotated: state
                .segments
                .front()
                .is_some_and(|(name, _)| name.number > 0),
            bytes: state.bytes,
            segments: u64::try_from(state.segments.len()).unwrap_or(u64::MAX),
        }
    }

    /// Number of the newest segment.
    pub fn newest(&self) -> Option<u64> {
        self.newest_segment().map(|name| name.number)
    }

    /// Name of the newest segment.
    pub fn newest_segment(&self) -> Option<SegmentName> {
        lock(&self.state).segments.back().map(|(name, _)| *name)
    }

    /// A segment's file was made, hidden, with room for `bytes`.
    pub fn made(&self, name: SegmentName, bytes: u64) {
        let mut state = lock(&self.state);
        state.hidden.retain(|(hidden, _)| *hidden != name);
        state.hidden.push((name, bytes));
    }

    /// Room that files take which are not visible yet.
    pub fn hidden_bytes(&self) -> u64 {
        hidden_bytes(&lock(&self.state))
    }

    /// Whether the file system has room for another segment by its own account. If it has and yet
    /// refuses, it is the device below that has none (thin provisioning), and giving up segments
    /// would cost them for nothing.
    pub fn has_room(&self, segment: u64) -> bool {
        rustix::fs::statvfs(&self.folder).is_ok_and(|room| {
            room.f_favail > 0 && room.f_bavail.saturating_mul(room.f_frsize) >= segment + ROOM_SLACK
        })
    }

    /// Bytes of the segments that are whole, or are becoming so unseen.
    pub fn settled_bytes(&self) -> u64 {
        let state = lock(&self.state);
        let newest = state.segments.back();
        let active = newest.filter(|(name, _)| state.active == Some(*name));
        let growing = active.map_or(0, |(_, bytes)| *bytes);
        state.bytes.saturating_sub(growing) + hidden_bytes(&state)
    }

    /// When the oldest segment that may be given up opens.
    pub fn oldest(&self) -> Option<Timestamp> {
        let state = lock(&self.state);
        let (name, _) = state.segments.front()?;
        (state.active != Some(*name)).then_some(name.first)
    }

    /// Unlinks the oldest segment; false when there is none to take. The segment being written is
    /// never taken.
    pub fn give_up_oldest(&self) -> Result<bool, IoError> {
        let mut state = lock(&self.state);
        let Some(&(name, bytes)) = state.segments.front() else {
            return Ok(false);
        };
        if state.active == Some(name) {
            return Ok(false);
        }
        let path = self.folder.join(name.to_string());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(IoError::new("rotate away", &path, error));
            }
            _ => {}
        }
        state.segments.pop_front();
        state.bytes = state.bytes.saturating_sub(bytes);
        Ok(true)
    }

    /// A segment became visible: counts it and links it to the pins it belongs to. Said again of the
    /// same, it does nothing. The links are durable after [`Self::sync_links`].
    pub fn created(&self, name: SegmentName, bytes: u64) {
        let mut state = lock(&self.state);
        state.hidden.retain(|(hidden, _)| *hidden != name);
        // It may be rotated away again by now.
        if state.counted >= Some(name.number) {
            return;
        }
        state.counted = Some(name.number);
        state.segments.push_back((name, bytes));
        state.bytes += bytes;
        state.active = Some(name);
        for pin in state.pins.iter().filter(|pin| pin.reaches(name)) {
            self.link_loudly(pin, name);
        }
    }

    /// Makes durable what [`Self::created`] and [`Self::replaced`] linked. Nobody else waits for it.
    pub fn sync_links(&self, name: SegmentName) {
        let state = lock(&self.state);
        let reached = state.pins.iter().filter(|pin| pin.reaches(name));
        let reached: Vec<Pin> = reached.cloned().collect();
        drop(state);
        for pin in reached {
            let synced = sync::folder(&self.pin_folder(&pin.id), Site::PinFolder);
            say_if_not_linked(&pin, synced);
        }
    }

    /// A segment grew to `bytes`.
    pub fn grown(&self, name: SegmentName, bytes: u64) {
        let mut state = lock(&self.state);
        let mut newest_first = state.segments.iter_mut().rev();
        if let Some((_, len)) = newest_first.find(|(segment, _)| *segment == name) {
            let added = bytes.saturating_sub(*len);
            *len = bytes;
            state.bytes += added;
        }
    }

    /// A segment was written anew as another file under the same name.
    pub fn replaced(&self, name: SegmentName) {
        let mut state = lock(&self.state);
        state.hidden.retain(|(hidden, _)| *hidden != name);
        for pin in &state.pins {
            let link = self.pin_folder(&pin.id).join(name.to_string());
            if fs::remove_file(&link).is_ok() {
                self.link_loudly(pin, name);
            }
        }
    }

    /// A segment's file turned out not to hold what was written to it: it goes to `aside/`, and out
    /// of the incidents that are not sealed.
    pub fn set_aside(&self, name: SegmentName) -> Result<(), IoError> {
        let mut state = lock(&self.state);
        let path = self.folder.join(name.to_string());
        if fs::symlink_metadata(&path).is_ok() {
            recovery::move_aside(&self.folder, &path, "the disk lost what it had taken")?;
        }
        unlink_unsealed(&self.incidents, &self.folder_name, name);
        if let Some(place) = state.segments.iter().position(|(one, _)| *one == name) {
            let bytes = state.segments.remove(place).map_or(0, |(_, bytes)| bytes);
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        Ok(())
    }

    /// A segment is whole.
    pub fn sealed(&self, name: SegmentName) {
        let mut state = lock(&self.state);
        if state.active == Some(name) {
            state.active = None;
        }
    }

    /// Whether the segment being written may hold packets of `window`.
    pub fn is_open_over(&self, window: &Window) -> bool {
        lock(&self.state)
            .active
            .is_some_and(|name| name.first < window.to.plus(SLACK))
    }

    /// Links what covers the window. Unless `last`, segments to come are linked as well; with
    /// `last`, a segment being written that opened after the window is left out: what was received
    /// in the window is in those before it, and evidence must not grow.
    pub fn pin(&self, id: &str, window: Window, last: bool) -> Result<(), IoError> {
        let mut state = lock(&self.state);
        let first: Vec<Timestamp> = state.segments.iter().map(|(name, _)| name.first).collect();
        let pin = Pin::new(id, window);
        let covers = covering(&first, &pin.window);
        let names: Vec<SegmentName> = state
            .segments
            .iter()
            .zip(covers)
            .filter_map(|((name, _), covers)| covers.then_some(*name))
            .filter(|name| !(last && state.active == Some(*name) && name.first >= window.to))
            .collect();
        state.pins.retain(|pin| pin.id != id);
        let rooted = state.rooted.contains(id);
        self.make_pin_folder(id, rooted)?;
        for name in names {
            self.link(&pin, name)?;
        }
        if last {
            state.rooted.remove(id);
        } else {
            state.rooted.insert(id.to_owned());
            state.pins.push(pin);
        }
        drop(state);
        sync::folder(&self.pin_folder(id), Site::PinFolder)
    }

    /// Ends a pin.
    pub fn unpin(&self, id: &str) {
        let mut state = lock(&self.state);
        state.pins.retain(|pin| pin.id != id);
        state.rooted.remove(id);
    }

    /// What is linked for an incident.
    pub fn pinned(&self, id: &str) -> Result<Vec<PinnedSegment>, IoError> {
        let catalog = Catalog::scan(&self.pin_folder(id))?;
        Ok(catalog
            .segments()
            .iter()
            .map(|segment| PinnedSegment {
                interface: self.folder_name.clone(),
                name: segment.name.to_string(),
            })
            .collect())
    }

    fn pin_folder(&self, id: &str) -> PathBuf {
        self.incidents
            .join(id)
            .join("segments")
            .join(&self.folder_name)
    }

    fn make_pin_folder(&self, id: &str, rooted: bool) -> Result<(), IoError> {
        let incident = self.incidents.join(id);
        make_incident_folder(&self.incidents, &incident)?;
        let segments = incident.join("segments");
        let folder = self.pin_folder(id);
        let made = make_folder(&segments, 0o750)? | make_folder(&folder, 0o750)?;
        if made || !rooted {
            for folder in [&segments, &incident, &self.incidents] {
                sync::folder(folder, Site::PinParents)?;
            }
        }
        Ok(())
    }

    /// Makes a hard link; one that is there already is fine.
    fn link(&self, pin: &Pin, name: SegmentName) -> Result<(), IoError> {
        let name = name.to_string();
        let link = self.pin_folder(&pin.id).join(&name);
        match fs::hard_link(self.folder.join(&name), &link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.renew(pin, &name, &link),
            // Rotated away between listing and linking cannot be: both hold the lock. It was
            // deleted by someone else, and what is gone is reported by its absence.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::error!(segment = name, "a segment of the ring disappeared");
                Ok(())
            }
            result => result.at("link", &link),
        }
    }

    /// A link that is there may be to a file that was written anew since: then it is replaced.
    fn renew(&self, pin: &Pin, name: &str, link: &Path) -> Result<(), IoError> {
        let source = self.folder.join(name);
        let inode = |path: &Path| fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()));
        let (Ok(ours), Ok(theirs)) = (inode(&source), inode(link)) else {
            return Ok(());
        };
        if ours == theirs {
            return Ok(());
        }
        let fresh = self.pin_folder(&pin.id).join(format!(".{name}.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(IoError::new("replace", &fresh, error));
            }
            _ => {}
        }
        fs::hard_link(&source, &fresh).at("link", &fresh)?;
        fs::rename(&fresh, link).at("link", link)
    }

    fn link_loudly(&self, pin: &Pin, name: SegmentName) {
        say_if_not_linked(pin, self.link(pin, name));
    }
}

fn say_if_not_linked(pin: &Pin, linked: Result<(), IoError>) {
    if let Err(error) = linked {
        // The pin is repeated by the server until it is complete, and links what is missing.
        tracing::error!(incident = pin.id, %error, "cannot pin a new segment");
    }
}

fn hidden_bytes(state: &State) -> u64 {
    state.hidden.iter().map(|(_, bytes)| bytes).sum()
}

/// Makes a folder unless it is there; whether it was made. A thing of that name which is no folder
/// of ours is refused: the server may write beside it.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<bool, IoError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).at("stat", path)?;
            if metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() {
                return Ok(false);
            }
            let error = std::io::Error::other("is not a folder of the recorder");
            Err(IoError::new("use", path, error))
        }
        Err(error) => Err(IoError::new("create", path, error)),
    }
}

/// An incident's folder: ours, so that the server cannot rename what we put there; sticky and
/// writable for the server's group, so that it can add files of its own.
fn make_incident_folder(incidents: &Path, incident: &Path) -> Result<(), IoError> {
    const MODE: u32 = 0o3770;
    make_folder(incident, 0o750)?;
    // A crash may have left it half made: group and mode are looked at every time.
    let group = fs::metadata(incidents).at("stat", incidents)?.gid();
    let own = fs::symlink_metadata(incident).at("stat", incident)?;
    if own.gid() != group {
        std::os::unix::fs::chown(incident, None, Some(group)).at("chgrp", incident)?;
    }
    if own.gid() != group || own.mode() & 0o7777 != MODE {
        fs::set_permissions(incident, fs::Permissions::from_mode(MODE)).at("chmod", incident)?;
    }
    Ok(())
}

/// Takes a segment that the disk lost out of the incidents that are not sealed: not only of those that
/// still grow, since one that is being finished asked for the sync that failed.
pub(super) fn unlink_unsealed(incidents: &Path, folder_name: &str, name: SegmentName) {
    for incident in fs::read_dir(incidents).into_iter().flatten().flatten() {
        let incident = incident.path();
        let link = incident.join("segments").join(folder_name);
        if fs::symlink_metadata(incident.join("manifest.json")).is_err() {
            drop(fs::remove_file(link.join(name.to_string())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_ns(seconds * 1_000_000_000)
    }

    fn name(number: u64) -> SegmentName {
        SegmentName {
            number,
            first: at(number * 10),
        }
    }

    fn rig() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("incidents")).unwrap();
        fs::create_dir_all(dir.path().join("ring/eth0")).unwrap();
        let store = Store::new(
            &dir.path().join("ring"),
            "eth0",
            &dir.path().join("incidents"),
            &Catalog::default(),
        );
        (dir, store)
    }

    fn add(store: &Store, number: u64) {
        fs::write(store.folder().join(name(number).to_string()), [0; 30]).unwrap();
        store.created(name(number), 30);
    }

    fn linked(store: &Store, id: &str) -> Vec<u64> {
        let pinned = store.pinned(id).unwrap();
        pinned
            .iter()
            .map(|p| SegmentName::parse(&p.name).unwrap().number)
            .collect()
    }

    #[test]
    fn what_the_disk_lost_leaves_every_incident_that_is_not_sealed() {
        let (dir, store) = rig();
        fs::write(dir.path().join("ring/eth0").join(name(1).to_string()), "x").unwrap();
        store.created(name(1), 1);
        store.sealed(name(1));
        let window = Window::new(at(10), at(11));
        for (id, last) in [("grows", false), ("ends", true), ("sealed", true)] {
            store.pin(id, window, last).unwrap();
        }
        let folder = |id: &str| dir.path().join("incidents").join(id);
        fs::write(folder("sealed").join("manifest.json"), "{}").unwrap();
        store.set_aside(name(1)).unwrap();
        for (id, kept) in [("grows", 0), ("ends", 0), ("sealed", 1)] {
            assert_eq!(store.pinned(id).unwrap().len(), kept, "{id}");
        }
        assert_eq!(store.holding().segments, 0);
    }

    #[test]
    fn a_pinned_segment_outlives_the_ring() {
        let (_dir, store) = rig();
        for number in 1..=3 {
            add(&store, number);
        }
        store.pin("i1", Window::new(at(12), at(15)), true).unwrap();
        assert!(store.give_up_oldest().unwrap() && store.give_up_oldest().unwrap());
        assert_eq!(store.holding().segments, 1);
        assert_eq!(linked(&store, "i1"), [1]);
    }

    #[test]
    fn segments_to_come_are_linked_until_the_window_ends() {
        let (_dir, store) = rig();
        add(&store, 1);
        store.pin("i1", Window::new(at(12), at(25)), false).unwrap();
        add(&store, 2);
        add(&store, 3);
        assert_eq!(
            linked(&store, "i1"),
            [1, 2],
            "the third opens after the window"
        );
        store.pin("i1", Window::new(at(12), at(25)), true).unwrap();
        add(&store, 4);
        assert_eq!(
            linked(&store, "i1"),
            [1, 2],
            "a pin that ended takes nothing more"
        );
    }

    #[test]
    fn a_segment_written_anew_replaces_the_link_to_the_old_file() {
        let (_dir, store) = rig();
        add(&store, 1);
        let window = Window::new(at(12), at(20));
        store.pin("i1", window, true).unwrap();
        let path = store.folder().join(name(1).to_string());
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"whole").unwrap();
        store.pin("i1", window, true).unwrap();
        let link = store.pin_folder("i1").join(name(1).to_string());
        assert_eq!(fs::read(link).unwrap(), b"whole");
    }

    #[test]
    fn a_half_made_incident_folder_is_mended() {
        let (dir, store) = rig();
        add(&store, 1);
        let incident = dir.path().join("incidents/i1");
        fs::DirBuilder::new().mode(0o750).create(&incident).unwrap();
        store.pin("i1", Window::new(at(12), at(20)), true).unwrap();
        let mode = fs::metadata(&incident).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o3770);
    }

    #[test]
    fn evidence_takes_no_segment_that_still_grows_after_the_window() {
        let (_dir, store) = rig();
        add(&store, 1);
        let name = SegmentName {
            number: 2,
            first: at(20).plus(Duration::from_millis(50)),
        };
        fs::write(store.folder().join(name.to_string()), [0; 30]).unwrap();
        store.created(name, 30);
        let window = Window::new(at(12), at(20));
        assert!(store.is_open_over(&window), "it is to be sealed first");
        store.pin("i1", window, true).unwrap();
        assert_eq!(linked(&store, "i1"), [1]);
        store.sealed(name);
        store.pin("i1", window, true).unwrap();
        assert_eq!(linked(&store, "i1"), [1, 2]);
    }

    #[test]
    fn the_segment_being_written_is_never_rotated_away() {
        let (_dir, store) = rig();
        add(&store, 1);
        assert!(!store.give_up_oldest().unwrap());
        assert_eq!(store.holding().segments, 1);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let (dir, store) = rig();
        add(&store, 1);
        let incident = dir.path().join("incidents/i1");
        fs::create_dir(&incident).unwrap();
        std::os::unix::fs::symlink("/tmp", incident.join("segments")).unwrap();
        let error = store
            .pin("i1", Window::new(at(0), at(99)), true)
            .unwrap_err();
        assert!(
            error.to_string().contains("not a folder of the recorder"),
            "{error}"
        );
    }
}
