//! The arguments.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// A dashcam for networks: always records, freezes the minutes that matter, hands out the packets.
#[derive(Debug, Parser)]
#[command(
    name = "wirewitness",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Args {
    /// Configuration file [default: /etc/wirewitness/wirewitness.toml, else an embedded default]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask the server at this address instead of the local one
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// Authorities to believe for --url https://..., PEM [default: those of this machine]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// API token for --url
    #[arg(
        long,
        global = true,
        env = "WIREWITNESS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run recorder and server together
    Run,
    /// Run the recorder: capture packets into the ring
    Record {
        /// Play this pcap or pcapng file through the recorder instead of listening
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
        /// Keep the time between the packets of --replay
        #[arg(long, requires = "replay")]
        pace: bool,
    },
    /// Run the server: triggers, incidents, export, web
    Serve,
    /// Freeze the packets around now; prints the incident's id
    Freeze {
        /// Keep this much of the past [default: window.before]
        #[arg(long, value_parser = parse_span, value_name = "SPAN", allow_hyphen_values = true)]
        before: Option<String>,
        /// Keep this much of what is to come [default: window.after]
        #[arg(long, value_parser = parse_span, value_name = "SPAN", allow_hyphen_values = true)]
        after: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// A pcap-filter(7) expression to suggest to who looks at it; everything is kept
        #[arg(long, value_name = "BPF")]
        filter: Option<String>,
    },
    /// List incidents, or show one
    Incidents {
        /// What to do with them
        #[command(subcommand)]
        action: Option<IncidentAction>,
    },
    /// Send a marked, harmless trigger the way of a real one, and see it come back as evidence
    Drill {
        /// Which source: its name or listen address, manual, or all [default: all]
        #[arg(value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Write packets of an incident or of the ring to a file
    Export {
        /// The incident; without it, --from and --to name a window of the ring
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// From when: RFC 3339, -10m or now
        #[arg(
            long,
            value_name = "TIME",
            allow_hyphen_values = true,
            required_unless_present = "id"
        )]
        from: Option<String>,
        /// To when
        #[arg(
            long,
            value_name = "TIME",
            allow_hyphen_values = true,
            required_unless_present = "id"
        )]
        to: Option<String>,
        /// Where to; - is standard output [default: a name made of the id or window]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// File format
        #[arg(long, value_enum, default_value_t = Format::Pcapng)]
        format: Format,
        /// Only packets that match this pcap-filter(7) expression
        #[arg(long, value_name = "BPF")]
        filter: Option<String>,
    },
    /// Check that evidence is whole and unaltered: an incident's folder or all of them
    Verify {
        /// An incident's folder, or the folder of all incidents
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Show what is recorded and what is wrong
    Status,
    /// Check the configuration
    CheckConfig,
    /// Check the machine: permissions, disk, memory, interfaces
    Doctor,
    /// Build the index anew from the incidents' folders
    Reindex,
    /// Rules over log lines
    Rule {
        /// What to do
        #[command(subcommand)]
        action: RuleAction,
    },
    /// Who is told of incidents and troubles
    Notify {
        /// What to do
        #[command(subcommand)]
        action: NotifyAction,
    },
    /// Accounts of the web interface
    User {
        /// What to do
        #[command(subcommand)]
        action: UserAction,
    },
    /// API tokens
    Token {
        /// What to do
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Print shell completions
    Completions {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What can be done with incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentAction {
    /// Show one incident
    Show {
        /// Its id
        id: String,
    },
}

/// What can be done with rules.
#[derive(Debug, Subcommand)]
pub enum RuleAction {
    /// Say what the lines on standard input would do, and why
    Test {
        /// A configuration, a file with nothing but rules, or the name of a pack
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the lines come from: syslog, logfile, or a listen address or path of the configuration
        #[arg(long, value_name = "SOURCE", default_value = "syslog")]
        source: String,
    },
    /// List the packs that come with the program, or print one
    Packs {
        /// The pack to print
        name: Option<String>,
    },
}

/// What can be done with those who are told.
#[derive(Debug, Subcommand)]
pub enum NotifyAction {
    /// Have the server send a test message, and say whether it arrived
    Test {
        /// The name of who is told, as in the configuration
        name: String,
    },
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UserAction {
    /// Add an account; the password is read from standard input
    Add {
        /// Its name
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = RoleArg::Analyst)]
        role: RoleArg,
    },
    /// Change a password, read from standard input
    Passwd {
        /// The account
        name: String,
    },
    /// List accounts and tokens
    List,
    /// Remove an account or a token
    Remove {
        /// Its name
        name: String,
    },
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token; prints it, once
    Create {
        /// What it is for
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = RoleArg::Viewer)]
        role: RoleArg,
    },
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// See lists, status and flows
    Viewer,
    /// Also freeze, and download packets
    Analyst,
    /// Everything
    Admin,
}

/// Formats of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// pcapng: several interfaces, names, comments, drops
    Pcapng,
    /// pcap with nanoseconds: one link type
    Pcap,
}

/// A span in the words of who gave it, so that an answer can say them again.
fn parse_span(text: &str) -> Result<String, String> {
    humantime::parse_duration(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a span such as 30s, 5m or 1h30m: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_before_now_are_no_options() {
        let args = Args::try_parse_from(["wirewitness", "export", "--from", "-10m", "--to", "now"])
            .unwrap();
        assert!(matches!(args.command, Command::Export { from: Some(from), .. } if from == "-10m"));
    }
}
