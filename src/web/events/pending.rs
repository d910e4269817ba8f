//! What one watching client has yet to be told: the latest of each incident.

use std::collections::{BTreeMap, BTreeSet};

use crate::incident::Change;
use crate::incident::model::Incident;

/// One thing to tell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// It was opened, changed or sealed.
    Incident(Box<Incident>),
    /// It was released.
    Released(String),
}

/// News by incident. What changes again before it is told is told once.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Incidents that were there when the watch began, or since.
    known: BTreeSet<String>,
    next_round: BTreeMap<String, News>,
    /// Being told. Apart, so that an incident that keeps changing does not hold up the others.
    round: BTreeMap<String, News>,
}

impl Pending {
    /// Nothing to tell; `there` are the incidents so far.
    pub(super) fn new(there: Vec<Incident>) -> Self {
        Self {
            known: there.into_iter().map(|incident| incident.id).collect(),
            ..Self::default()
        }
    }

    /// Takes a change in.
    pub(super) fn take(&mut self, change: Change) {
        match change {
            Change::Incident(incident) | Change::Sealed(incident) => {
                self.known.insert(incident.id.clone());
                self.next_round
                    .insert(incident.id.clone(), News::Incident(incident));
            }
            Change::Released(id) => {
                self.known.remove(&id);
                self.round.remove(&id);
                self.next_round.insert(id.clone(), News::Released(id));
            }
        }
    }

    /// Changes were missed: tells of all that is there, and of what no longer is.
    pub(super) fn refill(&mut self, there: Vec<Incident>) {
        let mut gone = std::mem::take(&mut self.known);
        for incident in there {
            gone.remove(&incident.id);
            self.take(Change::Incident(Box::new(incident)));
        }
        for id in gone {
            self.take(Change::Released(id));
        }
    }

    /// Whether there is something to tell and the last round is told.
    pub(super) fn can_begin_round(&self) -> bool {
        self.round.is_empty() && !self.next_round.is_empty()
    }

    /// Lets what is pending be told.
    pub(super) fn begin_round(&mut self) {
        self.round = std::mem::take(&mut self.next_round);
    }

    /// Whether a round is being told.
    pub(super) fn is_in_round(&self) -> bool {
        !self.round.is_empty()
    }

    /// The next news of the round.
    pub(super) fn next(&mut self) -> Option<News> {
        self.round.pop_first().map(|(_, news)| news)
    }
}
