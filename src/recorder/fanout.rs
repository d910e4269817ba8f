//! The sockets of an interface's capture threads, one fanout group.
//!
//! A socket that is open and not in the group yet gets every packet; together they would record it
//! more than once. So all are opened deaf, joined, emptied, and only then made to hear, before the
//! first thread says that it records. A thread that lost its socket alone comes back to the group
//! of the others, which had its share meanwhile; the time is on record as its gap.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use pcap::{Active, Capture};

use crate::recorder::capture::wait;
use crate::recorder::open::{
    BLOCK_TIMEOUT, CaptureOptions, descriptor, open_live, open_unfiltered, set_filter,
};
use crate::recorder::protocol::InterfaceState;
use crate::recorder::shared::lock;
use crate::recorder::socket;

/// Opens the sockets of one interface. Shared by its capture threads.
pub struct Group {
    name: String,
    state: Mutex<State>,
}

/// The sockets of one life of the interface.
struct State {
    /// The interface's index, 0 before the first opening.
    index: u32,
    /// The fanout group's number.
    id: Option<u16>,
    members: Vec<Place>,
}

/// One thread's place in the group.
#[derive(Default)]
struct Place {
    /// Opened, to be taken by its thread.
    ready: Option<Capture<Active>>,
    /// Whether its thread records.
    live: bool,
}

impl Group {
    /// For `threads` capture threads of the interface `name`.
    pub fn new(name: &str, threads: u32) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::new(State::new(0, usize::try_from(threads).unwrap_or(1))),
        }
    }

    /// Opens the socket of the thread that asks and gives it the interface's index; on failure
    /// says the state that follows and why.
    pub fn open(
        &self,
        options: &CaptureOptions,
    ) -> Result<(Capture<Active>, u32), (InterfaceState, String)> {
        let index = socket::interface_index(&self.name).ok_or_else(|| {
            let why = format!("no interface named {:?}", self.name);
            (InterfaceState::Absent, why)
        })?;
        let capture = if options.member.of <= 1 {
            open_live(&self.name, options)
        } else {
            self.take(index, options)
        };
        capture
            .map(|capture| (capture, index))
            .map_err(|error| (InterfaceState::Failed, error))
    }

    /// The thread's socket is gone.
    pub fn left(&self, options: &CaptureOptions) {
        let mut state = lock(&self.state);
        if let Some(place) = place(&mut state, options) {
            place.live = false;
        }
    }

    fn take(&self, index: u32, options: &CaptureOptions) -> Result<Capture<Active>, String> {
        let mut state = lock(&self.state);
        if state.index != index {
            *state = State::new(index, state.members.len());
        }
        if let Some(ready) = place(&mut state, options).and_then(Place::enter) {
            return Ok(ready);
        }
        if state.members.iter().any(|place| place.live) {
            let (mut capture, _) = self.open_deaf(options, state.id)?;
            hear(std::slice::from_mut(&mut capture), options)?;
            if let Some(place) = place(&mut state, options) {
                place.live = true;
            }
            return Ok(capture);
        }
        let mut id = None;
        let mut opened = Vec::with_capacity(state.members.len());
        for _ in &state.members {
            let (capture, joined) = self.open_deaf(options, id)?;
            id = Some(joined);
            opened.push(capture);
        }
        hear(&mut opened, options)?;
        state.id = id;
        for (place, capture) in state.members.iter_mut().zip(opened) {
            place.ready = Some(capture);
        }
        place(&mut state, options)
            .and_then(Place::enter)
            .ok_or_else(|| format!("{}: no such capture thread", self.name))
    }

    /// Opens a socket that takes nothing in and makes it a member of the group.
    fn open_deaf(
        &self,
        options: &CaptureOptions,
        id: Option<u16>,
    ) -> Result<(Capture<Active>, u16), String> {
        let capture = open_unfiltered(&self.name, options)?;
        let fd = descriptor(&capture);
        let joined = socket::refuse_all(fd).and_then(|()| socket::join_fanout(fd, id));
        let id = joined.map_err(|error| format!("{}: PACKET_FANOUT: {error}", self.name))?;
        Ok((capture, id))
    }
}

impl State {
    fn new(index: u32, threads: usize) -> Self {
        Self {
            index,
            id: None,
            members: std::iter::repeat_with(Place::default)
                .take(threads)
                .collect(),
        }
    }
}

impl Place {
    fn enter(&mut self) -> Option<Capture<Active>> {
        let capture = self.ready.take()?;
        self.live = true;
        Some(capture)
    }
}

fn place<'a>(state: &'a mut State, options: &CaptureOptions) -> Option<&'a mut Place> {
    let index = usize::try_from(options.member.index).ok()?;
    state.members.get_mut(index)
}

/// Throws away what came before the sockets were deaf, which others have too, and opens their ears.
fn hear(captures: &mut [Capture<Active>], options: &CaptureOptions) -> Result<(), String> {
    let since = Instant::now();
    let mut left = true;
    while left || since.elapsed() < 3 * BLOCK_TIMEOUT {
        left = false;
        for capture in captures.iter_mut() {
            let thrown = capture.dispatch(None, |_| {});
            left |= thrown.map_err(|error| format!("libpcap: {error}"))? > 0;
        }
        wait([], Duration::from_millis(2));
    }
    for capture in captures {
        let mut ready = socket::take_counts(descriptor(capture)).map(drop);
        if options.filter.is_empty() {
            ready = ready.and_then(|()| socket::accept_all(descriptor(capture)));
        }
        ready.map_err(|error| format!("packet socket: {error}"))?;
        // Takes the place of the one that refuses.
        set_filter(capture, options)?;
    }
    Ok(())
}
