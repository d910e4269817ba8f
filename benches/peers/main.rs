//! wirewitness beside other recorders, on the same traffic and the same disk, in turn.
//!
//! `make bench-peers`, as root: it makes its own network namespaces. `ARGS="--help"` lists options.
//! Results go to docs/performance/peers.md and peers.svg.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

mod bare;
mod count;
mod disturb;
mod frames;
mod lab;
mod plan;
mod process;
mod report;
mod run;
mod search;
mod send;
mod singles;
mod stats;
mod stop;
mod svg;
mod tools;
mod trains;

use frames::Mix;
use lab::Lab;
use plan::Scenario;
use report::{About, Results};
use run::Outcome;
use search::{Probe, Search};
use tools::Recorder;

/// What can fail here fails with words.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes that must be free on the scratch disk.
const DISK_BYTES: u64 = 25 << 30;

/// Compares packet recorders.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Sizes of the scenarios cost and search: bytes or imix
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<Mix>,
    /// Which recorders
    #[arg(long, value_enum, value_delimiter = ',')]
    recorders: Vec<Recorder>,
    /// Rounds; in each every recorder has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Searches for the highest loss-free rate, per recorder and size
    #[arg(long, default_value_t = 1)]
    searches: u32,
    /// Seconds of sending in one run; twice that where other work is beside it
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Nice value of every recorder [default: that of our systemd unit]
    #[arg(
        long,
        default_value_t = -10,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    nice: i32,
    /// One short round of everything: shows that the program works, measures nothing
    #[arg(long)]
    quick: bool,
    /// Scratch folder, on the disk to record to
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// Where peers.md and peers.svg go [default: docs/performance, with --quick the scratch folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// What cargo bench says
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program also is, when it calls itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// The floor
    #[command(hide = true)]
    Bare {
        interface: String,
        file: Option<PathBuf>,
    },
    /// The large write
    #[command(hide = true)]
    Write { file: PathBuf },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.role {
        Some(Role::Bare { interface, file }) => bare::run(interface, file.as_deref()),
        Some(Role::Write { file }) => disturb::write(file),
        None => Bench::new(args).and_then(Bench::run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    lab: Lab,
    dir: PathBuf,
    out: PathBuf,
    time: Duration,
    rounds: u32,
    searches: u32,
    quick: bool,
    scenarios: Vec<Scenario>,
    sizes: Vec<Mix>,
    recorders: Vec<Recorder>,
    about: About,
    results: Results,
    start: Instant,
    /// Runs so far, and about how many there will be.
    done: (u32, u32),
}

impl Bench {
    fn new(args: Args) -> Fallible<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".into());
        }
        fs::create_dir_all(&args.dir)?;
        let dir = args.dir.canonicalize()?;
        let disk = rustix::fs::statvfs(&dir)?;
        if disk.f_bavail * disk.f_frsize < DISK_BYTES {
            return Err(format!("{}: 25 GiB must be free", dir.display()).into());
        }
        stop::listen()?;
        tools::sweep(&dir)?;
        let out = match (args.out, args.quick) {
            (Some(out), _) => out,
            (None, true) => dir.clone(),
            (None, false) => "docs/performance".into(),
        };
        let sizes = if args.quick {
            vec![Mix::Fixed(1514)]
        } else {
            vec![Mix::Fixed(64), Mix::Fixed(512), Mix::Fixed(1514), Mix::Imix]
        };
        Ok(Self {
            lab: Lab::new(args.nice)?,
            dir,
            out,
            time: Duration::from_secs(if args.quick { 1 } else { args.seconds }),
            rounds: if args.quick { 1 } else { args.rounds },
            searches: args.searches,
            scenarios: or(args.scenarios, &Scenario::ALL),
            sizes: or(args.sizes, &sizes),
            recorders: or(args.recorders, &Recorder::ALL),
            quick: args.quick,
            about: about(args.nice)?,
            results: Results::default(),
            start: Instant::now(),
            done: (0, 0),
        })
    }

    fn run(mut self) -> Fallible<()> {
        self.announce();
        for scenario in self.scenarios.clone() {
            match scenario {
                Scenario::Search => self.search()?,
                other => self.rounds(other)?,
            }
            self.results.write(&self.about, &self.out)?;
        }
        let minutes = self.start.elapsed().as_secs_f64() / 60.0;
        eprintln!("{minutes:.1} minutes; {}/peers.md", self.out.display());
        Ok(())
    }

    /// Says how long it will take.
    fn announce(&mut self) {
        let mut time = Duration::ZERO;
        for &scenario in &self.scenarios {
            let cells = self.cells(scenario).len();
            // A search takes three runs when nothing is lost, and up to ten.
            let times = match scenario {
                Scenario::Search => 6 * self.searches,
                _ => self.rounds,
            };
            let runs = u32::try_from(cells).unwrap_or(0) * times;
            self.done.1 += runs;
            time += scenario.estimate(self.time) * runs;
        }
        eprintln!(
            "about {} runs, {:.0} minutes; scratch folder {}",
            self.done.1,
            time.as_secs_f64() / 60.0,
            self.dir.display()
        );
    }

    fn cells(&self, scenario: Scenario) -> Vec<(Mix, Recorder)> {
        let mut cells = Vec::new();
        for mix in scenario.mixes(&self.sizes) {
            let suitable = self.recorders.iter().filter(|&&one| {
                // A search is long; ours alone shows that it works.
                let long = self.quick && scenario == Scenario::Search;
                scenario.suits(one) && (!long || one == Recorder::Wirewitness)
            });
            cells.extend(suitable.map(|&recorder| (mix, recorder)));
        }
        cells
    }

    /// Rounds in which every recorder has its turn, so that a change of the machine hits all.
    fn rounds(&mut self, scenario: Scenario) -> Fallible<()> {
        eprintln!("{}", scenario.title());
        for _ in 0..self.rounds {
            for (mix, recorder) in self.cells(scenario) {
                let rate = scenario.load(mix, self.time).rate;
                if let Some(outcome) = self.one(scenario, mix, recorder, rate)? {
                    let key = (scenario, mix, recorder);
                    self.results.runs.entry(key).or_default().push(outcome);
                }
            }
        }
        Ok(())
    }

    /// Searches of all recorders side by side, a run of each in turn.
    fn search(&mut self) -> Fallible<()> {
        eprintln!("{}", Scenario::Search.title());
        for _ in 0..self.searches {
            let cells = self.cells(Scenario::Search);
            let mut searches: Vec<_> = cells
                .into_iter()
                .map(|cell| (cell, Search::default()))
                .collect();
            let mut going = true;
            while going {
                going = false;
                for ((mix, recorder), search) in &mut searches {
                    let Some(probe) = search.next() else {
                        continue;
                    };
                    going = true;
                    let rate = match probe {
                        Probe::FlatOut => None,
                        Probe::Rate(rate) => Some(rate),
                    };
                    match self.one(Scenario::Search, *mix, *recorder, rate)? {
                        Some(run) => search.note(
                            whole(run.offered()),
                            whole(run.sustained()),
                            run.lost() > 0,
                        ),
                        None => search.note(0, 0, true),
                    }
                }
            }
            for (cell, search) in searches {
                self.results
                    .found
                    .entry(cell)
                    .or_default()
                    .push(search.found());
            }
        }
        Ok(())
    }

    /// One run, reported. One that fails is no reason to throw the others away; Ctrl-C is.
    fn one(
        &mut self,
        scenario: Scenario,
        mix: Mix,
        recorder: Recorder,
        rate: Option<u64>,
    ) -> Fallible<Option<Outcome>> {
        let mut load = scenario.load(mix, self.time);
        load.rate = rate;
        let result = run::run(&self.lab, &self.dir, recorder, load, scenario.beside());
        stop::check()?;
        self.done.0 += 1;
        let (done, all) = self.done;
        let (name, at) = (recorder.name(), self.start.elapsed().as_secs());
        match result {
            Ok(run) => {
                eprintln!(
                    "[{done}/{all} {at} s] {name}, {mix}: {:.0}/s offered, {} of {} lost ({}), {} s CPU per million, drained in {:.1} s{}{}{}",
                    run.offered(),
                    run.lost(),
                    run.arrived,
                    percent(run.loss()),
                    stats::figure(run.per_million(run.cpu.0)),
                    run.drain,
                    note(run.doubled, "doubled"),
                    run.own.map_or_else(String::new, |own| own.text(run.lost())),
                    run.reads
                        .map_or_else(String::new, |reads| format!(", read {reads} times")),
                );
                Ok(Some(run))
            }
            Err(error) => {
                eprintln!("[{done}/{all} {at} s] {name}, {mix}: failed: {error}");
                *self
                    .results
                    .failed
                    .entry((scenario, mix, recorder))
                    .or_default() += 1;
                Ok(None)
            }
        }
    }
}

/// What was asked for, or all.
fn or<T: Clone>(given: Vec<T>, all: &[T]) -> Vec<T> {
    if given.is_empty() {
        all.to_vec()
    } else {
        given
    }
}

fn percent(value: f64) -> String {
    format!("{} %", stats::figure(value))
}

fn note(count: u64, what: &str) -> String {
    if count > 0 {
        format!(", {count} {what}")
    } else {
        String::new()
    }
}

/// A rate as a whole number.
fn whole(rate: f64) -> u64 {
    Duration::try_from_secs_f64(rate).map_or(0, |seconds| seconds.as_secs())
}

/// The machine, the kernel, the tools, the command, the day.
fn about(nice: i32) -> Fallible<About> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let mut lines = vec![
        format!("machine: {cores} cores, {model}, {} GiB", memory >> 20),
        format!("kernel: {}", kernel.trim()),
        format!("nice value of every recorder: {nice}"),
        format!("command: make bench-peers ARGS={:?}", arguments.join(" ")),
        format!("date: {}", chrono::Utc::now().format("%Y-%m-%d %H:%M UTC")),
    ];
    let ours = tools::binary().to_string_lossy().into_owned();
    for (program, argument) in [
        (ours.as_str(), "--version"),
        ("dumpcap", "--version"),
        ("tcpdump", "--version"),
        ("netsniff-ng", "--version"),
    ] {
        let output = Command::new(program).arg(argument).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let version = said.lines().take(if program == "tcpdump" { 2 } else { 1 });
        lines.push(version.collect::<Vec<_>>().join(", "));
    }
    Ok(About { lines })
}
