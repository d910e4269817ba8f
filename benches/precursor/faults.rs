//! The state machine of hard failures on the same links: how many intervals after the first probe
//! of an outage was lost it is told.

use wirewitness::time::Timestamp;
use wirewitness::trigger::probe::ProbeState;

use super::links::{Kind, Link, WEEK};

/// Outages of links cut at once: each with the intervals from its first probe to the fault, `None`
/// when it was not told.
pub(crate) fn cuts(seed: u64, weeks: u32, interval: f64) -> Vec<Option<f64>> {
    let link = Link::new(Kind::Cut, seed, weeks, interval);
    let events = link.events.clone();
    let mut state = ProbeState::new(3, 5);
    let mut told = Vec::new();
    for (seq, outcome) in (0..)
        .zip(link)
        .take_while(|(_, outcome)| outcome.at < f64::from(weeks) * WEEK)
    {
        let sent = Timestamp::from_ns((outcome.at * 1e9) as u64);
        let replied = outcome.rtt_ms.is_some();
        state.sent(seq, sent);
        if state.decide(seq, replied).is_some() {
            told.push(outcome.at);
        }
    }
    events
        .iter()
        .map(|event| {
            let first = (event.from / interval).ceil() * interval;
            let fault = told.iter().find(|at| first <= **at && **at < event.to)?;
            Some((fault - first) / interval)
        })
        .collect()
}
