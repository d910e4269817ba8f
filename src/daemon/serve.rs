//! `wirewitness serve`.
//!
//! First everything that needs a right is opened (sockets, tokens), then the rights are dropped,
//! then threads start.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::cli::args::Args;
use crate::cli::{Failure, load_config};
use crate::config::Config;
use crate::daemon::{Asked, Signals, clock, indexer, logging, privileges};
use crate::drill::{self, Drills};
use crate::incident::{Incidents, Setup};
use crate::index::Index;
use crate::notify;
use crate::recorder::client::Client;
use crate::recorder::sync::make_folders;
use crate::trigger::logfile::LogfileConfig;
use crate::trigger::maintenance::Maintenance;
use crate::trigger::sources::{self, Ready};
use crate::trigger::status::Sources;
use crate::web::{self, App, Bound, Keys, Parts};

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<(), Failure> {
    logging::init();
    super::die_with_parent();
    let config = load_config(args)?;
    super::prepare(args)?;
    let sources = Sources::new(config.window.limits());
    let state_dir = config.state_dir();
    make_folders(&state_dir, 0o777).map_err(Failure::failed)?;
    let bound = web::bind(&config.web).map_err(Failure::usage)?;
    let ready = config
        .triggers()
        .bind(&state_dir, &sources)
        .map_err(Failure::usage)?;
    let targets = notify::open(&config.notify).map_err(Failure::usage)?;
    let gave_up_root = become_server(&config)?;
    let opened = Opened {
        sources,
        bound,
        ready,
        targets,
        gave_up_root,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("start the server's threads: {error}")))?;
    let result = runtime.block_on(serve(args, config, opened));
    // A disk that hangs must not keep the process: everything is resumable.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match result? {
        Asked::Stop => Ok(()),
        Asked::Reload => start_again(),
    }
}

/// Becomes a fresh server with the same arguments and process id.
fn start_again() -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    let failed = |error: std::io::Error| Failure::Failed(format!("reload: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    tracing::info!("reload: the server starts again");
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(failed(error))
}

/// Becomes the server's user, if there is one that can work, and gives up every capability; whether
/// it was root and is no more.
fn become_server(config: &Config) -> Result<bool, Failure> {
    let mut gave_up_root = false;
    if let Some(user) = privileges::server_user(&config.server.user) {
        let (ring, evidence) = (&config.ring.path, &config.evidence.path);
        let folders = [ring.join("x"), evidence.join("x")];
        let files: Vec<PathBuf> = config
            .logfile
            .iter()
            .flat_map(LogfileConfig::files)
            .collect();
        let state_dir = config.state_dir();
        let closed = privileges::unreachable_for(user, &folders, &files)
            .or_else(|| (!privileges::may_share(&state_dir)).then(|| state_dir.clone()));
        if let Some(path) = closed {
            tracing::warn!(
                uid = user.uid,
                path = %path.display(),
                "the server stays root, without capabilities: its own user cannot work with this path"
            );
        } else {
            privileges::give_state(&state_dir, user)
                .map_err(|error| failed("hand the state directory to the server's user", &error))?;
            privileges::become_user(user)
                .map_err(|error| failed("become the server's user", &error))?;
            tracing::info!(uid = user.uid, "the server runs as its own user");
            gave_up_root = true;
        }
    }
    privileges::keep_only(&[]).map_err(|error| failed("drop capabilities", &error))?;
    Ok(gave_up_root)
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{what}: {error}"))
}

/// What was opened before rights were dropped.
struct Opened {
    sources: Sources,
    bound: Bound,
    ready: Ready,
    targets: Vec<notify::Target>,
    gave_up_root: bool,
}

async fn serve(args: &Args, config: Config, opened: Opened) -> Result<Asked, Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::Failed(format!("wait for signals: {error}")))?;
    let Opened {
        sources,
        bound,
        mut ready,
        targets,
        gave_up_root,
    } = opened;
    let stop = CancellationToken::new();
    let state_dir = config.state_dir();
    let recorder = Client::new(config.control_socket());
    let setup = Setup {
        evidence: config.evidence.clone(),
        window: config.window,
        keep_drills: config.drill.keep,
        state_dir: state_dir.clone(),
        ring: config.ring.path.clone(),
        recorder: recorder.clone(),
        maintenance: Arc::new(Maintenance::new(&config.maintenance).map_err(Failure::usage)?),
        clock: Arc::new(clock::read),
    };
    let (incidents, engine) = Incidents::open(setup, stop.clone()).map_err(Failure::failed)?;
    let index = Index::open(&state_dir.join("index.sqlite")).map_err(Failure::failed)?;
    let index = Arc::new(index);
    let indexer = tokio::spawn(indexer::run(
        incidents.clone(),
        Arc::clone(&index),
        stop.clone(),
    ));
    let chrony = tokio::spawn(clock::follow(stop.clone()));
    let hooks = std::mem::take(&mut ready.hooks);
    let drilled = std::mem::take(&mut ready.drills);
    let mut tasks = sources::start(ready, &incidents.intake(), &stop)
        .map_err(|error| Failure::Failed(format!("start the trigger sources: {error}")))?;
    let keys = bound.keys();
    let told = notify::Parts {
        watch: config.watch.clone(),
        state_dir: state_dir.clone(),
        evidence_quota_bytes: config.evidence.quota.as_u64(),
        incidents: incidents.clone(),
        recorder: recorder.clone(),
        sources: sources.clone(),
        clock: clock::read,
    };
    let (notifier, mut telling) = notify::start(targets, told, &stop);
    let address = bound.address().map_err(Failure::failed)?;
    let drills = drill::Parts {
        config: config.drill.clone(),
        targets: drilled,
        marks: sources.marks().clone(),
        incidents: incidents.clone(),
        state_dir: state_dir.clone(),
        web: address,
        tls: config.web.tls().unwrap_or_default(),
        socket: config.web.socket.clone(),
    };
    let drills = Drills::open(drills, stop.clone()).map_err(Failure::failed)?;
    let parts = Parts {
        config: config.web.clone(),
        state_dir,
        ring: config.ring.path.clone(),
        evidence_quota_bytes: config.evidence.quota.as_u64(),
        before: config.window.before,
        incidents,
        index,
        recorder,
        hooks,
        sources,
        drills: drills.clone(),
        notifier,
        clock: clock::read,
    };
    let app = App::new(parts, stop.clone()).map_err(Failure::failed)?;
    let mut web = tokio::spawn(web::serve(bound, app, stop.clone()));
    let schedule = tokio::spawn(drills.keep_schedule());
    tracing::info!(url = config.web.url(address), "serving");
    super::notify_ready();
    let ended = tokio::select! {
        asked = wait_for_end(args, &mut signals, gave_up_root, keys) => Ok(asked),
        ended = &mut web => Err(Failure::Failed(format!("the web server ended: {ended:?}"))),
    };
    tracing::info!("stopping");
    stop.cancel();
    let rest = async {
        while tasks.join_next().await.is_some() {}
        while telling.join_next().await.is_some() {}
        for task in [engine, indexer, chrony, schedule] {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a task failed");
            }
        }
        if !web.is_finished() {
            drop(web.await);
        }
    };
    if tokio::time::timeout(std::time::Duration::from_millis(1500), rest)
        .await
        .is_err()
    {
        tracing::warn!("not everything ended in time; what is left is taken up at the next start");
    }
    ended
}

/// Waits until there is a reason to end: a stop, or a reload with a configuration that is valid and
/// that this process, as the user it has become, can start with.
async fn wait_for_end(
    args: &Args,
    signals: &mut Signals,
    gave_up_root: bool,
    keys: Option<Arc<Keys>>,
) -> Asked {
    loop {
        match signals.next().await {
            Asked::Stop => return Asked::Stop,
            Asked::Reload if super::reread(args).is_some() => {
                if !gave_up_root {
                    return Asked::Reload;
                }
                if let Some(keys) = &keys {
                    keys.renew();
                }
                tracing::warn!(
                    "reload: this server gave up root and cannot open everything again; restart it"
                );
            }
            Asked::Reload => {}
        }
    }
}
