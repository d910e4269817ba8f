//! The tables and the charts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Fallible;
use crate::frames::Mix;
use crate::plan::{BUSY_RATE, Scenario};
use crate::run::Outcome;
use crate::search::Found;
use crate::stats::{Spread, figure};
use crate::svg::{Chart, Scale, draw};
use crate::tools::Recorder;

/// One cell of the plan.
pub(crate) type Key = (Scenario, Mix, Recorder);

/// Everything measured so far.
#[derive(Default)]
pub(crate) struct Results {
    /// Runs by cell.
    pub(crate) runs: BTreeMap<Key, Vec<Outcome>>,
    /// Searches by size and recorder, one entry per search.
    pub(crate) found: BTreeMap<(Mix, Recorder), Vec<Option<Found>>>,
    /// Runs that did not come to an end.
    pub(crate) failed: BTreeMap<Key, u32>,
}

/// What the report says about itself.
pub(crate) struct About {
    /// The machine, the kernel, the tools: one line each.
    pub(crate) lines: Vec<String>,
}

impl Results {
    /// Writes peers.md and peers.svg into `folder`.
    pub(crate) fn write(&self, about: &About, folder: &Path) -> Fallible<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("peers.svg"), draw(&self.charts()))?;
        fs::write(folder.join("peers.md"), self.page(about)?)?;
        Ok(())
    }

    fn page(&self, about: &About) -> Result<String, std::fmt::Error> {
        let mut page = String::from(
            "# wirewitness beside other recorders\n\n\
             Same traffic, same disk, in turn. Median (smallest-largest) of the runs.\n\n\
             ![CPU seconds per million packets, and packets lost](peers.svg)\n\n",
        );
        for line in &about.lines {
            writeln!(page, "- {line}")?;
        }
        for scenario in Scenario::ALL {
            if scenario == Scenario::Search {
                self.search_table(&mut page)?;
            } else {
                self.table(&mut page, scenario)?;
            }
        }
        self.calls(&mut page)?;
        Ok(page)
    }

    fn table(&self, page: &mut String, scenario: Scenario) -> std::fmt::Result {
        let mixes: Vec<Mix> = self.mixes(scenario);
        if mixes.is_empty() {
            return Ok(());
        }
        writeln!(
            page,
            "\n## {}\n\n\
             | bytes | recorder | runs | offered, 1000/s | lost, % | sustained, 1000/s | CPU s per million | times ours | user | system | peak memory, MiB | bytes on disk per packet |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            scenario.title()
        )?;
        for mix in mixes {
            let ours = self.spread((scenario, mix, Recorder::Wirewitness), cost);
            for recorder in Recorder::ALL {
                let key = (scenario, mix, recorder);
                let Some(runs) = self.runs.get(&key) else {
                    continue;
                };
                let text = |of: fn(&Outcome) -> f64| {
                    self.spread(key, of)
                        .map_or_else(String::new, |spread| spread.text())
                };
                let ratio = match (self.spread(key, cost), ours) {
                    (Some(theirs), Some(ours)) if ours.median > 0.0 => {
                        figure(theirs.median / ours.median)
                    }
                    _ => "-".to_owned(),
                };
                let failed = match self.failed.get(&key) {
                    Some(failed) => format!(" (+{failed} failed)"),
                    None => String::new(),
                };
                writeln!(
                    page,
                    "| {mix} | {} | {}{failed} | {} | {} | {} | {} | {ratio} | {} | {} | {} | {} |",
                    recorder.name(),
                    runs.len(),
                    text(|run| run.offered() / 1000.0),
                    text(Outcome::loss),
                    text(|run| run.sustained() / 1000.0),
                    text(cost),
                    text(|run| run.per_million(run.cpu.1)),
                    text(|run| run.per_million(run.cpu.2)),
                    text(|run| run.memory as f64 / f64::from(1 << 20)),
                    text(|run| run.bytes as f64 / (run.stored as f64).max(1.0)),
                )?;
            }
        }
        Ok(())
    }

    fn search_table(&self, page: &mut String) -> std::fmt::Result {
        if self.found.is_empty() {
            return Ok(());
        }
        writeln!(
            page,
            "\n## {}\n\n\
             A lower bound (>=) where the sender could not offer more. The kernel's buffer of 256 MiB \
             takes in about 165,000 packets of 1514 bytes, so that a short run flatters who is slow: \
             \"sustained\" above does not.\n\n\
             | bytes | recorder | loss-free, 1000/s | Gbit/s | loss-free runs at that rate |\n\
             | --- | --- | --- | --- | --- |",
            Scenario::Search.title()
        )?;
        for ((mix, recorder), found) in &self.found {
            let all = || found.iter().flatten();
            let Some(rates) = Spread::of(all().map(|found| found.rate as f64 / 1000.0)) else {
                writeln!(page, "| {mix} | {} | none found | | |", recorder.name())?;
                continue;
            };
            let bound = if all().all(|found| found.at_least) {
                ">= "
            } else {
                ""
            };
            let gbit = rates.median * mix.mean_bytes() as f64 * 8.0 / 1e6;
            let confirmed: u32 = all().map(|found| found.confirmed).sum();
            writeln!(
                page,
                "| {mix} | {} | {bound}{} | {bound}{} | {confirmed} |",
                recorder.name(),
                rates.text(),
                figure(gbit),
            )?;
        }
        Ok(())
    }

    fn calls(&self, page: &mut String) -> std::fmt::Result {
        let used = |recorder| self.runs.keys().any(|key| key.2 == recorder);
        page.push_str("\n## How each was called\n\n");
        for recorder in Recorder::ALL.into_iter().filter(|&one| used(one)) {
            writeln!(page, "- {}: `{}`", recorder.name(), recorder.call())?;
        }
        let gbit = BUSY_RATE as f64 * 1514.0 * 8.0 / 1e9;
        write!(
            page,
            "\n## How it is measured\n\n\
             In each round every recorder has its turn. Two network namespaces, a veth pair with NAPI. The sender (10,000 UDP flows, a number in every \
             payload) has processor 0, which also does the kernel's receiving: packets of one size go to it in trains \
             of up to 64 of one flow, which it cuts before the cable, a mix one by one. The recorder has processor 1 \
             alone, but for what else a scenario runs, which may run on either. Lost: packets that reached the \
             interface less different numbers in the files. CPU: all threads of the recorder between ready and \
             drained, per million packets stored; the kernel's receiving is not in it. Sustained: packets stored \
             over the time of sending and of draining. Peak memory counts mapped memory: the kernel's buffer of \
             256 MiB, our slots of 1 GiB. Drained means with ours that all is on disk (fdatasync), with the others that all \
             was handed to the page cache; writing that back costs processor time too, which is not in their CPU. The \
             large write is 6 GB through the page cache and fdatasync, over and over; the reading is \
             `wirewitness export` of everything through a running server, or `tcpdump -r` of the file, over and \
             over. {BUSY_RATE} packets of 1514 bytes a second are {gbit:.1} Gbit/s. The floor, bare libpcap, writes \
             nothing to disk, and what reads only does not even copy.\n"
        )
    }

    fn charts(&self) -> Vec<Chart> {
        let costs = self.mixes(Scenario::Cost).into_iter().map(|mix| {
            let name = match mix {
                Mix::Fixed(bytes) => format!("{bytes} bytes"),
                Mix::Imix => "IMIX".to_owned(),
            };
            (name, Scenario::Cost, mix)
        });
        let large = Mix::Fixed(1514);
        let losses = [
            ("flat out", Scenario::Flat),
            ("400,000/s beside a large write", Scenario::Writer),
            ("400,000/s while it is read", Scenario::Export),
        ];
        let losses = losses
            .into_iter()
            .map(|(name, scenario)| (name.to_owned(), scenario, large));
        let cost_chart = self.chart(
            "CPU seconds per million packets, paced (log scale; less is better)",
            Scale::Log,
            &costs.collect::<Vec<_>>(),
            cost,
        );
        let loss_chart = self.chart(
            "Packets lost, 1514 bytes, to disk (less is better)",
            Scale::Percent,
            &losses.collect::<Vec<_>>(),
            Outcome::loss,
        );
        [cost_chart, loss_chart].into_iter().flatten().collect()
    }

    fn chart(
        &self,
        title: &str,
        scale: Scale,
        groups: &[(String, Scenario, Mix)],
        of: fn(&Outcome) -> f64,
    ) -> Option<Chart> {
        let there = |recorder: &Recorder| {
            let mut groups = groups.iter();
            groups.any(|&(_, scenario, mix)| self.runs.contains_key(&(scenario, mix, *recorder)))
        };
        let recorders: Vec<Recorder> = Recorder::ALL
            .into_iter()
            .filter(|recorder| !recorder.is_ring() && there(recorder))
            .collect();
        let groups: Vec<_> = groups
            .iter()
            .map(|(name, scenario, mix)| {
                let bars = recorders
                    .iter()
                    .map(|&recorder| self.spread((*scenario, *mix, recorder), of));
                (name.clone(), bars.collect::<Vec<_>>())
            })
            .filter(|(_, bars)| bars.iter().any(Option::is_some))
            .collect();
        (!groups.is_empty()).then(|| Chart {
            title: title.to_owned(),
            scale,
            series: recorders
                .iter()
                .map(|one| (one.name().to_owned(), one.colour()))
                .collect(),
            groups,
        })
    }

    fn mixes(&self, scenario: Scenario) -> Vec<Mix> {
        let keys = self.runs.keys().filter(|key| key.0 == scenario);
        let mut mixes: Vec<Mix> = keys.map(|key| key.1).collect();
        mixes.sort();
        mixes.dedup();
        mixes
    }

    fn spread(&self, key: Key, of: fn(&Outcome) -> f64) -> Option<Spread> {
        Spread::of(self.runs.get(&key)?.iter().map(of))
    }
}

fn cost(run: &Outcome) -> f64 {
    run.per_million(run.cpu.0)
}
