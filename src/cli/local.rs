//! Commands that need no server: verify, check-config, reindex, accounts, completions, manual.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::cli::args::{Args, RoleArg, TokenAction, UserAction};
use crate::cli::{Failure, load_config, show};
use crate::daemon::privileges;
use crate::incident::manifest::Manifest;
use crate::incident::verify::verify as verify_evidence;
use crate::index::Index;
use crate::recorder::release::is_incident_id;
use crate::recorder::sync::make_folders;
use crate::time::Window;
use crate::web::{AccountError, Accounts, Role};

/// The longest password read from standard input, in bytes.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// `verify PATH`
pub fn verify(args: &Args, path: &Path) -> Result<(), Failure> {
    let report = verify_evidence(path).map_err(Failure::failed)?;
    if args.json {
        show::json(&report)?;
    } else {
        for one in &report.incidents {
            let verdict = if one.problems.is_empty() {
                "ok"
            } else {
                "DOES NOT VERIFY"
            };
            show::line(&format!(
                "{}: {verdict} ({} segments)",
                one.incident, one.segments
            ))?;
            for problem in &one.problems {
                show::line(&format!("  {}: {}", problem.file, problem.what))?;
            }
        }
        for skipped in &report.skipped {
            show::line(&format!("{skipped}: not sealed yet, not verified"))?;
        }
    }
    if report.is_ok() {
        return Ok(());
    }
    Err(Failure::NotVerified(format!(
        "{}: evidence does not verify",
        path.display()
    )))
}

/// `check-config`
pub fn check_config(args: &Args) -> Result<(), Failure> {
    let config = load_config(args)?;
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    if args.json {
        return show::json(&config);
    }
    let name = args
        .config
        .as_deref()
        .map_or_else(|| "configuration".into(), |path| path.display().to_string());
    show::line(&format!("{name}: ok"))
}

/// `user ...`
pub fn user(args: &Args, action: &UserAction) -> Result<(), Failure> {
    let accounts = Store::open(args)?;
    match action {
        UserAction::Add { name, role } => accounts.change(|a| {
            a.add(name, &read_password()?, (*role).into())
                .map_err(account_failure)
        }),
        UserAction::Passwd { name } => accounts.change(|a| {
            a.set_password(name, &read_password()?)
                .map_err(account_failure)
        }),
        UserAction::Remove { name } => accounts.change(|a| a.remove(name).map_err(account_failure)),
        UserAction::List => {
            let listed = accounts.accounts.list().map_err(Failure::failed)?;
            if args.json {
                return show::json(&listed);
            }
            for one in listed {
                show::line(&format!(
                    "{:<6} {:<8} {}",
                    one.kind,
                    one.role.to_string(),
                    one.name
                ))?;
            }
            Ok(())
        }
    }
}

/// What the caller named is wrong, or the file could not be changed.
fn account_failure(error: AccountError) -> Failure {
    match error {
        AccountError::File(_) | AccountError::Random(_) | AccountError::Hash(_) => {
            Failure::failed(error)
        }
        error => Failure::usage(error),
    }
}

/// `token ...`
pub fn token(args: &Args, action: &TokenAction) -> Result<(), Failure> {
    let TokenAction::Create { name, role } = action;
    let mut token = String::new();
    Store::open(args)?.change(|accounts| {
        token = accounts
            .create_token(name, (*role).into())
            .map_err(account_failure)?;
        Ok(())
    })?;
    if args.json {
        return show::json(&serde_json::json!({ "name": name, "token": token }));
    }
    show::line(&token)
}

/// `completions SHELL`
pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "wirewitness", &mut script);
    show::text(&String::from_utf8_lossy(&script))
}

/// `man`
pub fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command())
        .render(&mut page)
        .map_err(Failure::failed)?;
    show::text(&String::from_utf8_lossy(&page))
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Analyst => Self::Analyst,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// The accounts of the configured server.
struct Store {
    accounts: Accounts,
    state_dir: PathBuf,
}

impl Store {
    fn open(args: &Args) -> Result<Self, Failure> {
        let state_dir = load_config(args)?.state_dir();
        make_folders(&state_dir, 0o777).map_err(Failure::failed)?;
        let accounts = Accounts::open(&state_dir).map_err(Failure::failed)?;
        Ok(Self {
            accounts,
            state_dir,
        })
    }

    /// Changes the accounts; the server can read them also when root wrote them.
    fn change(&self, work: impl FnOnce(&Accounts) -> Result<(), Failure>) -> Result<(), Failure> {
        work(&self.accounts)?;
        privileges::hand_to_server(&self.state_dir).map_err(Failure::failed)
    }
}

fn read_password() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return read_hidden();
    }
    let mut text = String::new();
    io::stdin()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(Failure::failed)?;
    checked(&text)
}

/// Reads a line from the terminal without showing it.
fn read_hidden() -> Result<String, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).map_err(Failure::failed)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("Password: ");
    tcsetattr(&stdin, OptionalActions::Now, &hidden).map_err(Failure::failed)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &shown).map_err(Failure::failed)?;
    eprintln!();
    read.map_err(Failure::failed)?;
    checked(&line)
}

fn checked(text: &str) -> Result<String, Failure> {
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::Usage(
            "no password: write it to standard input".into(),
        ));
    }
    Ok(password.to_owned())
}

/// `reindex`: forgets the index and reads every sealed incident's segments again.
pub fn reindex(args: &Args) -> Result<(), Failure> {
    let config = load_config(args)?;
    let state_dir = config.state_dir();
    let index = Index::open(&state_dir.join("index.sqlite")).map_err(Failure::failed)?;
    let incidents = sealed_incidents(&config.evidence.path)?;
    let (total, mut seen, mut failed) = (incidents.len(), 0, 0);
    index
        .rebuild(incidents, |id, result| {
            seen += 1;
            match result {
                Ok(_) => eprintln!("{seen}/{total} {id}"),
                Err(error) => {
                    failed += 1;
                    eprintln!("{seen}/{total} {id}: {error}");
                }
            }
        })
        .map_err(Failure::failed)?;
    privileges::hand_to_server(&state_dir).map_err(Failure::failed)?;
    if failed > 0 {
        return Err(Failure::Failed(format!(
            "{failed} of {total} incidents could not be indexed"
        )));
    }
    show::line(&format!("{total} incidents indexed"))
}

/// The incidents with a manifest, their segments' folders and windows.
fn sealed_incidents(evidence: &Path) -> Result<Vec<(String, PathBuf, Window)>, Failure> {
    let entries = std::fs::read_dir(evidence)
        .map_err(|error| Failure::Failed(format!("list {}: {error}", evidence.display())))?;
    let mut incidents = Vec::new();
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if !is_incident_id(&id) {
            continue;
        }
        if let Ok((manifest, _)) = Manifest::read(&entry.path()) {
            incidents.push((id, entry.path().join("segments"), manifest.incident.window));
        }
    }
    incidents.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(incidents)
}
