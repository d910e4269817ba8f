//! Storms: what hooks and logs take in while the recorder records. `make bench-storm`, as root: it
//! makes its own network namespaces; prints Markdown.
//!
//! `ARGS="--only hooks,udp --seconds 60 --rate 10000"` chooses; everything is counted on both sides.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and what is not in an answer is null"
)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

#[expect(dead_code, reason = "shared with the benchmark beside other recorders")]
#[path = "../peers/frames.rs"]
mod frames;
mod hooks;
#[expect(dead_code, reason = "shared with the benchmark beside other recorders")]
#[path = "../peers/lab.rs"]
mod lab;
mod logs;
mod pace;
#[expect(dead_code, reason = "shared with the benchmark beside other recorders")]
#[path = "../peers/process.rs"]
mod process;
#[expect(dead_code, reason = "shared with the benchmark beside other recorders")]
#[path = "../peers/send.rs"]
mod send;
#[path = "../peers/singles.rs"]
mod singles;
mod site;
#[path = "../peers/stop.rs"]
mod stop;
#[path = "../peers/trains.rs"]
mod trains;

use lab::Lab;
use site::{Run, Site};

/// What can fail here fails with words.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What rages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Storm {
    /// Hook calls about one subject
    Hooks,
    /// Hook calls about a thousand subjects
    Subjects,
    /// Syslog by UDP
    Udp,
    /// Syslog by TCP
    Tcp,
    /// A log file
    File,
}

/// Sends more than a bad day does, and counts.
#[derive(Debug, Parser)]
struct Args {
    /// Which storms [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Storm>,
    /// Seconds of hook calls; a third of it of log lines
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Hook calls a second; ten times as many log lines
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Connections of the caller
    #[arg(long, default_value_t = 320)]
    connections: usize,
    /// Calls sent ahead on a connection without waiting for answers
    #[arg(long, default_value_t = 4)]
    ahead: usize,
    /// Packets a second on the recorded link
    #[arg(long, default_value_t = 10_000)]
    packets: u64,
    /// What cargo bench says
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Fallible<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".into());
    }
    stop::listen()?;
    let storms = match args.only.as_slice() {
        [] => Storm::value_variants(),
        some => some,
    };
    println!("{}", Run::HEAD);
    for storm in storms {
        println!("{}", one(args, *storm)?.row());
        stop::check()?;
    }
    Ok(())
}

/// One storm over an installation of its own.
fn one(args: &Args, storm: Storm) -> Fallible<Run> {
    let lab = Lab::new(-10)?;
    let mut site = Site::start(&lab)?;
    let long = Duration::from_secs(args.seconds);
    let short = long / 3;
    let calls = hooks::Calls {
        rate: args.rate,
        time: long,
        subjects: 1,
        connections: args.connections,
        ahead: args.ahead,
    };
    let lines = logs::Lines {
        rate: args.rate * 10,
        time: short,
    };
    let time = if matches!(storm, Storm::Hooks | Storm::Subjects) {
        long
    } else {
        short
    };
    site.storm(&lab, args.packets, time, |site| match storm {
        Storm::Hooks => hooks::storm(site, calls),
        Storm::Subjects => hooks::storm(
            site,
            hooks::Calls {
                subjects: 1000,
                ..calls
            },
        ),
        Storm::Udp => logs::storm(site, lines, logs::By::Udp),
        Storm::Tcp => logs::storm(site, lines, logs::By::Tcp),
        Storm::File => logs::storm(site, lines, logs::By::File),
    })
}
