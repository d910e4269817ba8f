//! `wirewitness record`.

use std::path::Path;
use std::sync::Arc;

use caps::Capability;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::args::Args;
use crate::cli::{Failure, load_config};
use crate::config::Config;
use crate::daemon::{Asked, Signals, logging, privileges};
use crate::recorder::control;
use crate::recorder::open::{CaptureOptions, Replay, open_live};
use crate::recorder::priority;
use crate::recorder::service::{Recorder, RecorderConfig};
use crate::recorder::socket::interface_index;

/// Records until SIGTERM or SIGINT.
pub fn run(args: &Args, replay: Option<&Path>, pace: bool) -> Result<(), Failure> {
    logging::init();
    super::die_with_parent();
    let config = load_config(args)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let replay = replay.map(|file| Replay {
        file: file.to_owned(),
        pace,
    });
    match &replay {
        Some(replay) => check_savefile(replay)?,
        None => check_permission(&config)?,
    }
    let recorder_config = recorder_config(&config, replay);
    // The threads to come inherit it; afterwards there is no right to it any more.
    priority::raise();
    allow_open_files();
    drop_privileges(&recorder_config)?;
    let recorder = Recorder::start(&recorder_config).map_err(Failure::usage)?;
    let recorder = Arc::new(recorder);
    let listener = control::bind(&config.ring.path).map_err(Failure::failed)?;
    let served = Arc::clone(&recorder);
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control::serve(&listener, &served))
        .map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
    tracing::info!(interfaces = ?config.capture.interfaces, ring = %config.ring.path.display(), "recording");
    super::notify_ready();
    super::block_on(wait_for_stop(args, &config))??;
    tracing::info!("stopping");
    recorder.stop();
    Ok(())
}

/// While the disk's syncs hang, each segment that waits for one keeps its file open.
fn allow_open_files() {
    const ENOUGH: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if limit.current.is_some_and(|now| now < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays");
        }
    }
}

/// Waits for SIGTERM or SIGINT. A reload changes nothing of the recorder, whose settings are those
/// of its ring: what differs is said, and recording goes on.
async fn wait_for_stop(args: &Args, config: &Config) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::Failed(format!("wait for signals: {error}")))?;
    while signals.next().await == Asked::Reload {
        let Some(fresh) = super::reread(args) else {
            continue;
        };
        if fresh.capture == config.capture && fresh.ring == config.ring {
            tracing::info!("reload: nothing changed for the recorder");
        } else {
            tracing::warn!(
                "reload: [capture] or [ring] changed; it takes effect when the recorder is restarted"
            );
        }
    }
    Ok(())
}

fn recorder_config(config: &Config, replay: Option<Replay>) -> RecorderConfig {
    let mut capture = config.capture.clone();
    if replay.is_some() && capture.interfaces.len() != 1 {
        capture.interfaces = vec!["replay".to_owned()];
    }
    RecorderConfig {
        capture,
        ring: config.ring.clone(),
        incidents: config.evidence.path.clone(),
        replay,
        group: privileges::server_user(&config.server.user).map(|user| user.gid),
    }
}

/// A right that is missing is said at once; an interface that is missing may come.
fn check_permission(config: &Config) -> Result<(), Failure> {
    let options = CaptureOptions::new(&config.capture, &config.ring, None).for_a_look();
    for name in config
        .capture
        .interfaces
        .iter()
        .filter(|name| interface_index(name).is_some())
    {
        if let Err(error) = open_live(name, &options)
            && error.contains("no permission to capture")
        {
            return Err(Failure::Usage(error));
        }
    }
    Ok(())
}

fn check_savefile(replay: &Replay) -> Result<(), Failure> {
    pcap::Capture::from_file(&replay.file)
        .map(drop)
        .map_err(|error| Failure::Usage(format!("--replay {}: {error}", replay.file.display())))
}

fn drop_privileges(config: &RecorderConfig) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("drop privileges: {error}"));
    if let Some(group) = config.group {
        privileges::join_group(group).map_err(|error| failed(&error))?;
    }
    let keep: &[Capability] = if config.replay.is_some() {
        &[]
    } else {
        &[Capability::CAP_NET_RAW]
    };
    privileges::keep_only(keep).map_err(|error| failed(&error))
}
