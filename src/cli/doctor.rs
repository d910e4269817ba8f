//! `doctor`: looks at the machine as the recorder and the server will need it, and says what to do.

use std::path::Path;

use crate::cli::args::Args;
use crate::cli::{Failure, filesystem, load_config, show};
use crate::config::{Config, interfaces};
use crate::daemon::clock;
use crate::recorder::client::Client;
use crate::recorder::open::{CaptureOptions, open_live};
use crate::recorder::socket::interface_index;
use crate::ring::catalog::Catalog;
use crate::ring::window::sources_in;

use serde::Serialize;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    text: String,
}

/// Looks at everything; exit code 1 when something is wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let config = load_config(args)?;
    let mut findings = vec![finding("configuration", Ok("is valid".to_owned()))];
    findings.extend(
        config
            .capture
            .interfaces
            .iter()
            .map(|name| check_interface(name, &config)),
    );
    findings.push(finding("ring", check_disk(&config)));
    let (ring, evidence) = (nearest(&config.ring.path), nearest(&config.evidence.path));
    findings.push(finding("file system", filesystem::check(ring, evidence)));
    findings.push(finding("memory", check_memory(&config)));
    if config.capture.threads > 1 {
        findings.push(finding("threads", check_threads(&config)));
    }
    findings.push(finding("clock", check_clock()));
    findings.push(finding("recorder", check_recorder(&config)));
    findings.push(finding("web", check_web(&config)));
    if args.json {
        show::json(&findings)?;
    } else {
        for one in &findings {
            let mark = if one.ok { "ok  " } else { "FAIL" };
            show::line(&format!("{mark} {:<14} {}", one.check, one.text))?;
        }
    }
    let failed = findings.iter().filter(|one| !one.ok).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "{failed} of {} checks failed",
            findings.len()
        )))
    }
}

fn finding(check: &'static str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    let (Ok(text) | Err(text)) = result;
    Finding { check, ok, text }
}

fn check_interface(name: &str, config: &Config) -> Finding {
    if interface_index(name).is_none() {
        let text = format!(
            "{name}: there is no such interface; there are: {}",
            interfaces().join(", ")
        );
        return finding("interface", Err(text));
    }
    let options = CaptureOptions::new(&config.capture, &config.ring, None).for_a_look();
    finding(
        "interface",
        open_live(name, &options).map(|_| format!("{name}: can be captured")),
    )
}

fn check_disk(config: &Config) -> Result<String, String> {
    let path = nearest(&config.ring.path);
    let disk = rustix::fs::statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let count = u64::try_from(config.capture.interfaces.len()).unwrap_or(0);
    let wanted = config.ring.size.as_u64().saturating_mul(count);
    let held = held_bytes(config);
    let (free_text, wanted_text) = (bytesize::ByteSize(free), bytesize::ByteSize(wanted));
    if wanted > free.saturating_add(held) {
        return Err(format!(
            "{}: the rings want {wanted_text}, {free_text} are free; lower ring.size or free space",
            path.display()
        ));
    }
    Ok(format!(
        "{}: {wanted_text} wanted, {free_text} free",
        path.display()
    ))
}

fn held_bytes(config: &Config) -> u64 {
    let sources = sources_in(&config.ring.path).unwrap_or_default();
    sources
        .iter()
        .filter(|source| config.capture.interfaces.contains(&source.interface))
        .flat_map(|source| &source.dirs)
        .filter_map(|folder| Some(Catalog::scan(folder).ok()?.bytes()))
        .sum()
}

/// The nearest folder above that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.exists())
        .unwrap_or_else(|| Path::new("."))
}

fn check_memory(config: &Config) -> Result<String, String> {
    let info = std::fs::read_to_string("/proc/meminfo")
        .map_err(|error| format!("/proc/meminfo: {error}"))?;
    let available = info
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        .saturating_mul(1024);
    let count = u64::try_from(config.capture.interfaces.len()).unwrap_or(0);
    let each = config
        .ring
        .memory
        .as_u64()
        .saturating_add(config.capture.buffer.as_u64());
    let wanted = each.saturating_mul(count);
    let (wanted_text, available_text) = (bytesize::ByteSize(wanted), bytesize::ByteSize(available));
    if wanted > available {
        return Err(format!(
            "ring.memory and capture.buffer want {wanted_text}, {available_text} are available; lower them"
        ));
    }
    Ok(format!("{wanted_text} wanted, {available_text} available"))
}

fn check_threads(config: &Config) -> Result<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (threads, spare) = (config.capture.threads, cores.saturating_sub(1).max(1));
    if usize::try_from(threads).is_ok_and(|threads| threads > spare) {
        return Err(format!(
            "capture.threads {threads} on {cores} cores leave none for the disk and the server; \
             set {spare} or fewer"
        ));
    }
    Ok(format!(
        "{threads} capture threads per interface on {cores} cores"
    ))
}

fn check_clock() -> Result<String, String> {
    let clock = clock::read_now();
    let bound = clock.offset_bound_ns.map_or_else(String::new, |ns| {
        format!(
            ", at most {} off",
            humantime::format_duration(std::time::Duration::from_micros(ns / 1000))
        )
    });
    if clock.synchronised {
        Ok(format!("synchronised by {}{bound}", clock.source))
    } else {
        Err(format!(
            "not synchronised{bound}; install chrony, or the evidence says so"
        ))
    }
}

fn check_recorder(config: &Config) -> Result<String, String> {
    let status = Client::new(config.control_socket())
        .status()
        .map_err(|error| error.to_string())?;
    let not_running = status
        .interfaces
        .iter()
        .find(|interface| interface.state != crate::recorder::protocol::InterfaceState::Running);
    match not_running {
        None => Ok(format!("records {} interface(s)", status.interfaces.len())),
        Some(interface) => Err(format!(
            "{} is not recorded: {}",
            interface.name,
            interface.why.as_deref().unwrap_or("no reason known")
        )),
    }
}

fn check_web(config: &Config) -> Result<String, String> {
    let timeout = std::time::Duration::from_secs(2);
    std::net::TcpStream::connect_timeout(&config.web.listen, timeout)
        .map(|_| format!("answers on {}", config.web.listen))
        .map_err(|error| {
            format!(
                "{}: {error}; is `wirewitness serve` running?",
                config.web.listen
            )
        })
}
