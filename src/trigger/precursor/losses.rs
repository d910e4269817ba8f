//! The signs in losses: several close together, single ones or gaps more often than usual.

use crate::time::Timestamp;

use super::hysteresis::Hysteresis;
use super::loss::{BURST, GAPS, LossEvidence, TREND, usual_gaps};
use super::sign::{Edge, Sign, SignKind};

/// Probes without evidence until a burst is over; of a trend, five times as many.
const CALM_PROBES: u32 = 60;

/// Watches which probes are lost.
#[derive(Debug, Clone)]
pub struct Losses {
    /// The evidence that a sign needs.
    enough: f64,
    burst: LossEvidence,
    trend: LossEvidence,
    gaps: LossEvidence,
    burst_sign: Hysteresis,
    trend_sign: Hysteresis,
    in_a_row: u32,
}

impl Losses {
    /// A sign needs so much evidence ([`threshold`](super::loss::threshold)).
    pub const fn new(enough: f64) -> Self {
        Self {
            enough,
            burst: LossEvidence::new(BURST),
            trend: LossEvidence::new(TREND),
            gaps: LossEvidence::new(GAPS),
            burst_sign: Hysteresis::new(CALM_PROBES),
            trend_sign: Hysteresis::new(CALM_PROBES * 5),
            in_a_row: 0,
        }
    }

    /// Forgets what was collected; signs stand.
    pub const fn forget(&mut self) {
        self.burst = LossEvidence::new(BURST);
        self.trend = LossEvidence::new(TREND);
        self.gaps = LossEvidence::new(GAPS);
        self.in_a_row = 0;
    }

    /// Takes in a probe; `usual` is the usual rate of loss, 0 to 1. No sign begins unless `ready`.
    pub fn add(
        &mut self,
        sent: Timestamp,
        lost: bool,
        usual: f64,
        ready: bool,
    ) -> impl Iterator<Item = Sign> {
        let enough = self.enough;
        self.in_a_row = if lost {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
        self.burst.add(sent, lost, usual, enough);
        // A trend counts how often it is lost, not for how long.
        self.trend.add(sent, self.in_a_row == 1, usual, enough);
        let begins = self.in_a_row == 2;
        self.gaps.add(sent, begins, usual_gaps(usual), enough);

        let alarm = |of: &LossEvidence| of.reaches(enough).filter(|_| ready);
        let (trend, gaps) = (alarm(&self.trend), alarm(&self.gaps));
        let quiet = self.trend.is_none() && self.gaps.is_none();
        let burst = self
            .burst_sign
            .step(sent, alarm(&self.burst), self.burst.is_none());
        let often = self.trend_sign.step(sent, trend.or(gaps), quiet);
        let percent = usual * 100.0;
        let burst = burst.map(|(edge, since)| {
            let text = describe(edge, percent, || losses(&self.burst, percent));
            Sign::new(SignKind::LossBurst, sent, (edge, since, text))
        });
        let often = often.map(|(edge, since)| {
            let text = describe(edge, percent, || match trend {
                Some(_) => losses(&self.trend, percent),
                None => gaps_of(&self.gaps, percent),
            });
            Sign::new(SignKind::LossTrend, sent, (edge, since, text))
        });
        burst.into_iter().chain(often)
    }
}

fn describe(edge: Edge, percent: f64, raised: impl Fn() -> String) -> String {
    match edge {
        Edge::Raised => raised(),
        Edge::Cleared => format!("loss is as usual, {percent:.1} % at this hour"),
    }
}

fn losses(evidence: &LossEvidence, percent: f64) -> String {
    let (lost, of) = evidence.counts();
    format!("{lost} of {of} probes lost, usual {percent:.1} % at this hour")
}

fn gaps_of(evidence: &LossEvidence, percent: f64) -> String {
    let (gaps, of) = evidence.counts();
    format!("{gaps} gaps of two or more in {of} probes, usual {percent:.1} % lost at this hour")
}
