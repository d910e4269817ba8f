//! Early signs measured: the detector beside fixed thresholds and SmokePing's kinds of matchers on
//! simulated links. `make bench-precursor`; prints Markdown.
//!
//! `ARGS="--seed 7 --targets 40 --weeks 3 --interval 1"` are the defaults; `--only wirewitness` leaves
//! the others out.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and its numbers are its own"
)]

mod faults;
mod links;
mod rivals;
mod score;

use links::Kind;
use rivals::Watcher;
use score::{Score, median, play, watchers};

struct Options {
    seed: u64,
    targets: u64,
    weeks: u32,
    interval: f64,
    only: String,
}

impl Options {
    fn watchers(&self) -> Vec<(&'static str, Box<dyn Watcher>)> {
        let mut watchers = watchers(self.interval);
        watchers.retain(|(name, _)| name.contains(&self.only));
        watchers
    }
}

fn options() -> Options {
    let given: Vec<String> = std::env::args().collect();
    let text = |name: &str| {
        let place = given.iter().position(|arg| arg == name);
        place.and_then(|place| given.get(place + 1))
    };
    let of = |name: &str, usual: f64| {
        let value = text(name).and_then(|value| value.parse().ok());
        value.unwrap_or(usual)
    };
    Options {
        seed: of("--seed", 7.0) as u64,
        targets: of("--targets", 40.0) as u64,
        weeks: of("--weeks", 3.0) as u32,
        interval: of("--interval", 1.0),
        only: text("--only").cloned().unwrap_or_default(),
    }
}

fn main() {
    let options = options();
    let interval = options.interval;
    let watchers = options.watchers();
    let names: Vec<&str> = watchers.iter().map(|(name, _)| *name).collect();
    println!(
        "Seed {}, {} targets of each kind for {} weeks each, a probe every {} s.\n",
        options.seed, options.targets, options.weeks, options.interval
    );
    let mut all = vec![Score::default(); names.len()];
    for kind in Kind::ALL {
        let mut scores = vec![Score::default(); names.len()];
        for target in 0..options.targets {
            let seed = options.seed.wrapping_mul(1_000_003) ^ (target << 8) ^ kind as u64;
            let played = play(kind, seed, options.weeks, interval, options.watchers());
            for (score, played) in scores.iter_mut().zip(&played) {
                score.add(played);
            }
        }
        for (all, score) in all.iter_mut().zip(&scores) {
            all.add(score);
        }
        table(kind.name(), &names, &scores);
    }
    table("all links", &names, &all);
    let seeds = 0..options.targets;
    let cuts = seeds.flat_map(|target| {
        faults::cuts(
            options.seed ^ (target << 8),
            options.weeks,
            options.interval,
        )
    });
    let cuts: Vec<Option<f64>> = cuts.collect();
    let in_time = cuts
        .iter()
        .flatten()
        .filter(|intervals| **intervals <= 2.0 + 1e-6)
        .count();
    println!(
        "Hard failures told within 2 intervals of the first lost probe: {in_time} of {}.",
        cuts.len()
    );
}

fn table(title: &str, names: &[&str], scores: &[Score]) {
    println!("### {title}\n");
    println!(
        "| watcher | false per target-week | in the first week | noticed | after (median) | before the fault | lead (median) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, score) in names.iter().zip(scores) {
        println!(
            "| {name} | {:.2} | {:.2} | {} | {} | {} | {} |",
            score.false_per_week(),
            score.false_in_first(),
            share(score.delays.len(), score.events),
            seconds(median(&score.delays)),
            share(score.before as usize, score.faults),
            seconds(median(&score.leads)),
        );
    }
    println!();
}

fn share(some: usize, all: u32) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    format!("{:.0} % of {all}", 100.0 * some as f64 / f64::from(all))
}

fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) => format!("{:.0} min", seconds / 60.0),
    }
}
