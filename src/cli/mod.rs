//! The command line: what can be said, and which part does it.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 evidence does not verify.

pub mod args;
pub mod client;
pub mod doctor;
pub mod drill;
mod filesystem;
pub mod local;
pub mod remote;
pub mod rules;
pub mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Args, Command, IncidentAction, NotifyAction, RuleAction};
use crate::cli::remote::{Export, Freeze};
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
        Command::Run => daemon::run::run(args),
        Command::Record { replay, pace } => daemon::record::run(args, replay.as_deref(), *pace),
        Command::Serve => daemon::serve::run(args),
        Command::Freeze {
            before,
            after,
            reason,
            filter,
        } => remote::freeze(
            args,
            &Freeze {
                before: before.as_deref(),
                after: after.as_deref(),
                reason: reason.as_deref(),
                filter: filter.as_deref(),
            },
        ),
        Command::Incidents { action: None } => remote::incidents(args),
        Command::Incidents {
            action: Some(IncidentAction::Show { id }),
        } => remote::incident(args, id),
        Command::Drill { source } => drill::run(args, source.as_deref()),
        Command::Export {
            id,
            from,
            to,
            output,
            format,
            filter,
        } => remote::export(
            args,
            &Export {
                id: id.as_deref(),
                from: from.as_deref(),
                to: to.as_deref(),
                output: output.as_deref(),
                format: *format,
                filter: filter.as_deref(),
            },
        ),
        Command::Verify { path } => local::verify(args, path),
        Command::Status => remote::status(args),
        Command::CheckConfig => local::check_config(args),
        Command::Doctor => doctor::run(args),
        Command::Reindex => local::reindex(args),
        Command::Rule {
            action: RuleAction::Test { file, source },
        } => rules::test(args, file, source),
        Command::Rule {
            action: RuleAction::Packs { name },
        } => rules::packs(args, name.as_deref()),
        Command::Notify {
            action: NotifyAction::Test { name },
        } => remote::test_notification(args, name),
        Command::User { action } => local::user(args, action),
        Command::Token { action } => local::token(args, action),
        Command::Completions { shell } => local::completions(*shell),
        Command::Man => local::man(),
    }
}

/// The configuration that the command line points at.
pub fn load_config(args: &Args) -> Result<Config, Failure> {
    Config::load(args.config.as_deref()).map_err(Failure::usage)
}
