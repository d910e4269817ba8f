//! One capture thread of an interface with what is its own: socket, slots, keeper, folder.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{IoContext, IoError};
use crate::recorder::budget::Budget;
use crate::recorder::capture::{Capturer, Command};
use crate::recorder::doubts::Doubts;
use crate::recorder::fanout::Group;
use crate::recorder::gaps::GapLog;
use crate::recorder::held::Lead;
use crate::recorder::keeper::{self, Keeper};
use crate::recorder::open::CaptureOptions;
use crate::recorder::pump::Pump;
use crate::recorder::seconds::SecondsLog;
use crate::recorder::service::RecorderConfig;
use crate::recorder::shared::Shared;
use crate::recorder::slots::{Slot, Slots};
use crate::recorder::store::Store;
use crate::recorder::writer::{SlotWriter, WriterParts, channel_capacity};
use crate::ring::names;
use crate::time::{Timestamp, Window};

/// What the threads of an interface have in common.
pub(super) struct Common<'a> {
    pub(super) name: &'a str,
    pub(super) config: &'a RecorderConfig,
    pub(super) group: Arc<Group>,
    pub(super) budget: Arc<Budget>,
    pub(super) stopped: &'a Receiver<()>,
    /// The same for all, in every sample: it tells which threads recorded together.
    pub(super) start: Timestamp,
}

/// What one thread has of its own.
pub(super) struct Parts {
    pub(super) store: Arc<Store>,
    pub(super) slot_path: PathBuf,
    pub(super) gaps: GapLog,
    /// Up to when its folder is whole.
    pub(super) until: Option<Timestamp>,
}

/// One capture thread.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) commands: Sender<Command>,
    pub(super) free: Receiver<Slot>,
    pub(super) slots: u64,
    slot_path: PathBuf,
}

impl Member {
    /// Makes everything but the three threads.
    pub(super) fn prepare(
        common: &Common<'_>,
        place: names::Member,
        parts: Parts,
    ) -> Result<(Self, Capturer, Pump, Keeper), IoError> {
        let (config, store) = (common.config, parts.store);
        let shared = Shared::new(common.name, place).at("make an eventfd for", store.folder())?;
        let shared = Arc::new(shared);
        if let Some(until) = parts.until {
            shared.set_durable(until);
        }
        let segment = config.ring.segment.as_u64();
        let memory = config.ring.memory.as_u64() / u64::from(place.of.max(1));
        let count = usize::try_from(memory / segment).unwrap_or(2).max(2);
        let slot_bytes = usize::try_from(segment).unwrap_or(usize::MAX);
        let slots = Slots::prepare(&parts.slot_path, count, slot_bytes)?.into_slots();
        let (give, free) = bounded(count);
        for slot in slots {
            drop(give.send(slot));
        }
        let (send, events) = bounded(channel_capacity(count));
        let (pumped, steps) = bounded(channel_capacity(count));
        let (urge, hurry) = bounded(1);
        let (commands, asked) = bounded(1024);
        let next_number = store.newest().map_or(0, |newest| newest + 1);
        let mut writer = SlotWriter::new(WriterParts {
            interface: common.name.to_owned(),
            free: free.clone(),
            events: send,
            next_number,
            patient: config.replay.is_some(),
            sync: config.ring.sync,
            start: common.start,
        });
        let newest = store.newest_segment().map(|name| name.first);
        writer.follow(newest, parts.until.unwrap_or(Timestamp::MIN));
        let pump = Pump {
            store: Arc::clone(&store),
            budget: Arc::clone(&common.budget),
            shared: Arc::clone(&shared),
            events,
            steps: pumped,
            hurry: urge,
            lead: Lead::of(count),
            free: give.clone(),
            segment_bytes: segment,
        };
        let keeper = Keeper {
            store: Arc::clone(&store),
            budget: Arc::clone(&common.budget),
            shared: Arc::clone(&shared),
            steps,
            hurry,
            free: give,
            gaps: Mutex::new(parts.gaps),
            doubts: Mutex::new(Doubts::beside(&parts.slot_path)),
            seconds: Mutex::new(SecondsLog::new(store.folder())),
            segment_bytes: segment,
            linger: keeper::linger(config.ring.sync),
            stopping: common.stopped.clone(),
        };
        let options = CaptureOptions::new(&config.capture, &config.ring, config.replay.clone());
        let capturer = Capturer {
            options: options.for_thread(place),
            group: Arc::clone(&common.group),
            shared: Arc::clone(&shared),
            commands: asked,
            writer,
            blind_since: None,
        };
        let member = Self {
            shared,
            store,
            commands,
            free,
            slots: u64::try_from(count).unwrap_or(0),
            slot_path: parts.slot_path,
        };
        Ok((member, capturer, pump, keeper))
    }

    /// Gives the slots' memory back, if everything in them is on disk; otherwise the next start
    /// finds it there.
    pub(super) fn leave(&self) {
        if u64::try_from(self.free.len()).ok() != Some(self.slots) {
            tracing::warn!(slots = %self.slot_path.display(), "not everything is on disk; the next start brings it in");
            return;
        }
        let removed = fs::remove_file(&self.slot_path);
        // Other threads may have theirs beside it: then the folder stays.
        if removed.is_ok()
            && let Some(folder) = self.slot_path.parent()
        {
            drop(fs::remove_dir(folder));
        }
    }

    /// Whether the window is not wholly in sealed segments yet.
    pub(super) fn must_seal(&self, window: &Window) -> bool {
        let durable = self.shared.durable().unwrap_or(Timestamp::MIN);
        self.store.is_open_over(window) || durable < window.to
    }
}
