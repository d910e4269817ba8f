//! `wirewitness run`: recorder and server as children of one small parent, which starts again what
//! ends. The parent opens no socket, reads no packet and holds no file.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::cli::args::Args;
use crate::cli::{Failure, load_config};
use crate::config::Config;
use crate::daemon::{Asked, CHILD, Signals, logging};
use crate::time::Timestamp;
use crate::web::{Role, create_login_link};

/// How long the children have to end.
const STOP_LIMIT: Duration = Duration::from_millis(1900);
/// A child that lived longer than this is started again at once.
const STEADY: Duration = Duration::from_secs(5);
const RESTART_SOON: Duration = Duration::from_millis(50);
const RESTART_LATE: Duration = Duration::from_secs(2);
/// A usage or configuration error: starting again would not help.
const USAGE: i32 = 2;

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<(), Failure> {
    logging::init();
    let config = load_config(args)?;
    super::prepare(args)?;
    super::block_on(supervise(args, &config))?
}

async fn supervise(args: &Args, config: &Config) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::Failed(format!("wait for signals: {error}")))?;
    let mut recorder = Process::new("record", args)?;
    let mut server = Process::new("serve", args)?;
    let mut greeted = false;
    let ended = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break Ok(()),
                // The server ends and is started again with what is new; recording goes on.
                Asked::Reload => if super::reread(args).is_some() {
                    tracing::info!("reload: the server starts again");
                    server.ask_to_stop();
                },
            },
            ended = recorder.child.wait() => {
                if let Err(failure) = recorder.again(args, ended).await {
                    break Err(failure);
                }
            }
            ended = server.child.wait() => {
                if let Err(failure) = server.again(args, ended).await {
                    break Err(failure);
                }
            }
            () = wait_until_up(config), if !greeted => {
                greeted = true;
                recorder.worked = true;
                server.worked = true;
                greet(config)?;
            }
        }
    };
    tracing::info!("stopping");
    recorder.ask_to_stop();
    server.ask_to_stop();
    let both = async { tokio::join!(recorder.child.wait(), server.child.wait()) };
    if tokio::time::timeout(STOP_LIMIT, both).await.is_err() {
        tracing::warn!(
            "not everything ended in time and is killed; nothing that was accepted is lost"
        );
        for role in [&mut recorder, &mut server] {
            if let Err(error) = role.child.kill().await {
                tracing::debug!(%error, role = role.name, "kill");
            }
        }
    }
    ended
}

/// One child.
struct Process {
    name: &'static str,
    child: Child,
    started: Instant,
    quick_ends: u32,
    /// Whether it was up once: then a mistake in a later configuration ends neither it for good
    /// nor the other.
    worked: bool,
}

impl Process {
    fn new(name: &'static str, args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            name,
            child: spawn(name, args)?,
            started: Instant::now(),
            quick_ends: 0,
            worked: false,
        })
    }

    /// Starts it again after it ended, unless that would not help.
    async fn again(
        &mut self,
        args: &Args,
        ended: std::io::Result<ExitStatus>,
    ) -> Result<(), Failure> {
        let status =
            ended.map_err(|error| Failure::Failed(format!("wait for {}: {error}", self.name)))?;
        if status.code() == Some(USAGE) && !self.worked {
            // It said why.
            return Err(Failure::Usage(String::new()));
        }
        self.quick_ends = if self.started.elapsed() > STEADY {
            0
        } else {
            self.quick_ends + 1
        };
        let pause = if self.quick_ends < 20 && status.code() != Some(USAGE) {
            RESTART_SOON
        } else {
            RESTART_LATE
        };
        tracing::warn!(
            role = self.name,
            code = status.code(),
            signal = status.signal(),
            "ended; starting it again"
        );
        tokio::time::sleep(pause).await;
        self.child = spawn(self.name, args)?;
        self.started = Instant::now();
        Ok(())
    }

    fn ask_to_stop(&self) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        {
            tracing::debug!(%error, role = self.name, "has ended already");
        }
    }
}

fn spawn(role: &str, args: &Args) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("start {role}: {error}"));
    let mut command = std::process::Command::new(std::env::current_exe().map_err(failed)?);
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    // A group of its own: Ctrl-C reaches the parent alone, which ends both in order.
    command
        .arg(role)
        .env(CHILD, "1")
        .process_group(0)
        .stdin(std::process::Stdio::null());
    Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

/// Completes when the web server answers a request: then it has everything open.
async fn wait_until_up(config: &Config) {
    loop {
        if answers(config).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn answers(config: &Config) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(config.web.listen).await?;
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        config.web.listen
    );
    stream.write_all(request.as_bytes()).await?;
    stream.read_u8().await.map(drop)
}

/// Says where to go, with a link that logs in once.
fn greet(config: &Config) -> Result<(), Failure> {
    let address = config.web.url(config.web.listen);
    let text = match login_code(config) {
        Ok(code) => format!(
            "\n  wirewitness records. Open {address}\n  One-time login link (15 minutes): {address}/#login={code}\n  Stop with Ctrl-C.\n\n"
        ),
        Err(error) => format!("\n  wirewitness records. Open {address} ({error})\n\n"),
    };
    crate::cli::show::text(&text)
}

fn login_code(config: &Config) -> Result<String, String> {
    let state_dir = config.state_dir();
    create_login_link(&state_dir, "admin", Role::Admin, Timestamp::now())
        .map_err(|error| error.to_string())
}
