//! What is released, by age and at the quota. Pure.
//!
//! Precursors and drills go after their time. At the quota drills go first, then the oldest precursors; when only incidents are left and they fill the quota, new
//! precursors are refused and people are told. Incidents never go by themselves.

use std::collections::HashMap;

use super::id::IncidentId;
use crate::trigger::Grade;

/// A file of evidence: hard links to one inode count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Blob {
    /// Its inode.
    pub(super) inode: u64,
    /// Its length.
    pub(super) bytes: u64,
}

/// What one incident holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holding {
    /// The incident; ids sort by age.
    pub(super) id: IncidentId,
    /// Its weight.
    pub(super) grade: Grade,
    /// Whether it was a rehearsal.
    pub(super) drill: bool,
    /// Only sealed incidents can be released.
    pub(super) sealed: bool,
    /// Whether it was kept for as long as its weight asks for.
    pub(super) expired: bool,
    /// Its segments.
    pub(super) blobs: Vec<Blob>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// Precursors to release, oldest first.
    pub(super) release: Vec<IncidentId>,
    /// Bytes held now, each inode counted once.
    pub(super) bytes: u64,
    /// Whether the quota is used up even after the releases.
    pub(super) full: bool,
}

/// Chooses what to release so that `holdings` fit `quota_bytes`.
pub(super) fn plan(holdings: &[Holding], quota_bytes: u64) -> Plan {
    let mut holders: HashMap<u64, (u64, u64)> = HashMap::new();
    for blob in holdings.iter().flat_map(|holding| &holding.blobs) {
        let holder = holders.entry(blob.inode).or_insert((0, blob.bytes));
        holder.0 += 1;
        holder.1 = holder.1.max(blob.bytes);
    }
    let bytes = holders.values().map(|(_, bytes)| bytes).sum();
    let mut left: u64 = bytes;
    let mut precursors: Vec<&Holding> = holdings
        .iter()
        .filter(|holding| holding.sealed && holding.grade == Grade::Precursor)
        .collect();
    precursors.sort_by(|a, b| (!a.drill, &a.id).cmp(&(!b.drill, &b.id)));
    let mut release = Vec::new();
    for precursor in precursors {
        if left < quota_bytes && !precursor.expired {
            continue;
        }
        for blob in &precursor.blobs {
            if let Some((holders, bytes)) = holders.get_mut(&blob.inode) {
                *holders -= 1;
                if *holders == 0 {
                    left = left.saturating_sub(*bytes);
                }
            }
        }
        release.push(precursor.id.clone());
    }
    Plan {
        release,
        bytes,
        full: left >= quota_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(id: &str, grade: Grade, inodes: &[u64]) -> Holding {
        Holding {
            id: id.parse().unwrap(),
            grade,
            drill: false,
            sealed: true,
            expired: false,
            blobs: inodes
                .iter()
                .map(|&inode| Blob { inode, bytes: 10 })
                .collect(),
        }
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.release.iter().map(IncidentId::as_str).collect()
    }

    #[test]
    fn shared_inodes_count_once() {
        let holdings = [
            holding("a", Grade::Incident, &[1, 2, 3]),
            holding("b", Grade::Incident, &[2, 3, 4]),
        ];
        assert_eq!(plan(&holdings, 100).bytes, 40);
    }

    #[test]
    fn the_oldest_precursors_go_until_it_fits() {
        let holdings = [
            holding("c", Grade::Precursor, &[5]),
            holding("a", Grade::Precursor, &[1, 2]),
            holding("b", Grade::Precursor, &[3, 4]),
            holding("0", Grade::Incident, &[2, 9]),
        ];
        let fits = plan(&holdings, 61);
        assert_eq!((ids(&fits), fits.full), (vec![], false));
        let over = plan(&holdings, 40);
        // Inode 2 stays with the incident, so `a` alone frees too little.
        assert_eq!((ids(&over), over.full), (vec!["a", "b"], false));
    }

    #[test]
    fn drills_go_before_every_precursor() {
        let mut drill = holding("b", Grade::Precursor, &[2]);
        drill.drill = true;
        let holdings = [holding("a", Grade::Precursor, &[1]), drill];
        assert_eq!(ids(&plan(&holdings, 15)), ["b"]);
    }

    #[test]
    fn precursors_go_after_their_time_whatever_the_quota() {
        let mut old = holding("a", Grade::Precursor, &[1]);
        old.expired = true;
        let mut incident = holding("b", Grade::Incident, &[2]);
        incident.expired = true;
        let holdings = [old, incident, holding("c", Grade::Precursor, &[3])];
        assert_eq!(ids(&plan(&holdings, 1000)), ["a"]);
    }

    #[test]
    fn incidents_never_go_by_themselves() {
        let mut open = holding("a", Grade::Precursor, &[7]);
        open.sealed = false;
        let holdings = [open, holding("b", Grade::Incident, &[1, 2])];
        let full = plan(&holdings, 15);
        assert_eq!((ids(&full), full.full), (vec![], true));
    }
}
