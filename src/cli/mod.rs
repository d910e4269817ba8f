//! The command line: what can be said, and which part does it.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 evidence does not verify.

pub mod args;

pub mod client;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Args, Command};
use crate::config::Config;
use crate::daemon;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was tried and failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// It could not be tried: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Evidence does not verify: exit code 3.
    #[error("{0}")]
    NotVerified(String),
}

impl Failure {
    /// A failure of the world, from anything that says what happened.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// A failure of what was asked.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotVerified(_) => 3,
        })
    }
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("wirewitness: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Record { replay, pace } => daemon::record::run(args, replay.as_deref(), *pace),
        _ => Ok(()),
    }
}

/// The configuration that the command line points at.
pub fn load_config(args: &Args) -> Result<Config, Failure> {
    Config::load(args.config.as_deref()).map_err(Failure::usage)
}
