//! A channel from one thread to another that promises less than crossbeam's: what was sent happens
//! before it is received, and nothing else is ordered. A model that holds here holds there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicUsize};

/// Messages of one model at most; a place is used once.
const PLACES: usize = 64;

struct Queue<T> {
    places: Vec<UnsafeCell<Option<T>>>,
    sent: AtomicUsize,
    taken: AtomicUsize,
    closed: AtomicBool,
}

// SAFETY: a place is written by the one sender before `sent` passes it (Release) and taken by the
// one receiver after it saw that (Acquire); loom checks both, as the places are loom's cells.
unsafe impl<T: Send> Sync for Queue<T> {}

/// The one sender.
pub struct Sender<T>(Arc<Queue<T>>);

/// The one receiver.
pub struct Receiver<T>(Arc<Queue<T>>);

/// Why nothing was received.
#[derive(Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing was sent yet.
    Empty,
    /// Nothing will be.
    Disconnected,
}

/// Why nothing was sent. The model's channels are never full.
#[derive(Debug)]
pub enum TrySendError<T> {
    /// No place is left.
    Full(T),
    /// Nobody receives.
    Disconnected(T),
}

/// A channel; the capacity is beyond what a model sends.
pub fn bounded<T>(_capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue {
        places: (0..PLACES).map(|_| UnsafeCell::new(None)).collect(),
        sent: AtomicUsize::new(0),
        taken: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Sender<T> {
    /// Sends.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let at = self.0.sent.load(Ordering::Relaxed);
        self.0.places[at].with_mut(|place| {
            // SAFETY: loom fails the model when anybody else is at this place.
            unsafe { *place = Some(message) }
        });
        self.0.sent.store(at + 1, Ordering::Release);
        Ok(())
    }

    /// Sends; the answer of crossbeam's blocking send.
    pub fn send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.try_send(message)
    }

    /// Messages on the way.
    pub fn len(&self) -> usize {
        self.0.sent.load(Ordering::Relaxed) - self.0.taken.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

impl<T> Receiver<T> {
    /// Receives, if there is something.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let at = self.0.taken.load(Ordering::Relaxed);
        let closed = self.0.closed.load(Ordering::Acquire);
        if at == self.0.sent.load(Ordering::Acquire) {
            return Err(if closed {
                TryRecvError::Disconnected
            } else {
                TryRecvError::Empty
            });
        }
        let message = self.0.places[at].with_mut(|place| {
            // SAFETY: loom fails the model when anybody else is at this place.
            unsafe { (*place).take() }
        });
        self.0.taken.store(at + 1, Ordering::Relaxed);
        message.ok_or(TryRecvError::Empty)
    }

    /// Receives; waits.
    pub fn recv(&self) -> Result<T, TryRecvError> {
        loop {
            match self.try_recv() {
                Err(TryRecvError::Empty) => loom::thread::yield_now(),
                answer => return answer,
            }
        }
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}
