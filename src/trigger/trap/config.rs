//! `[[trap]]`: where SNMP traps are received, from whom, and which of them ask for a freeze.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::BoundTraps;
use super::engine::Engine;
use super::names;
use super::security::{Guard, User};
use super::usm::{Auth, PASSWORD_BYTES_MIN, Priv};
use crate::error::{IoContext, IoError};
use crate::time::span;
use crate::trigger::several::Several;

/// As much as the kernel allows of this waits while we are not scheduled.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Traps that tell of what is no fault, unless `on` names them.
const QUIET: [&str; 5] = [
    "entConfigChange",
    "lldpRemTablesChange",
    "ccmCLIRunningConfigChanged",
    "ciscoConfigManEvent",
    "upsTrapTestCompleted",
];

/// One `[[trap]]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrapConfig {
    /// `udp://ADDRESS:PORT`.
    pub listen: String,
    /// The communities of versions 1 and 2c; without one only version 3 is taken.
    #[serde(default, skip_serializing)]
    pub community: Several<String>,
    /// The users of version 3.
    #[serde(default)]
    pub user: Vec<TrapUser>,
    /// The traps that ask for a freeze, by name or numbers (`1.3.6.1.4.1.9.*`); all when empty.
    #[serde(default)]
    pub on: Vec<String>,
    /// The traps that do not.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// How late traps usually come: they carry no time, and are filed this much earlier.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "span")]
    pub late: Duration,
}

/// One `[[trap.user]]`: a user of SNMPv3. Passwords are never written out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrapUser {
    /// The name.
    pub name: String,
    /// How its messages are authenticated; not at all without it.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// The password of that, at least 8 characters.
    #[serde(default, skip_serializing)]
    pub auth_password: Option<String>,
    /// A file that holds it.
    #[serde(default)]
    pub auth_password_file: Option<PathBuf>,
    /// How its messages are encrypted; not at all without it.
    #[serde(default, rename = "priv")]
    pub privacy: Option<Priv>,
    /// The password of that, at least 8 characters.
    #[serde(default, skip_serializing)]
    pub priv_password: Option<String>,
    /// A file that holds it.
    #[serde(default)]
    pub priv_password_file: Option<PathBuf>,
}

impl std::fmt::Debug for TrapConfig {
    /// Leaves the secrets out: configurations are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrapConfig")
            .field("listen", &self.listen)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TrapUser {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrapUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why traps cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum TrapError {
    /// The address is not one.
    #[error("[[trap]] listen = {0:?} is not an address to listen on: write udp://0.0.0.0:162")]
    Address(String),
    /// Nobody could send anything.
    #[error(
        "[[trap]] {0}: give community (versions 1 and 2c), a [[trap.user]] (version 3), or both"
    )]
    Nobody(String),
    /// A value that makes no sense.
    #[error("[[trap]] {0}: {1}: {2}")]
    Value(String, &'static str, String),
    /// A user that makes no sense.
    #[error("[[trap.user]] {0}: {1}: {2}")]
    User(String, &'static str, String),
    /// A file cannot be read or written.
    #[error("[[trap]] {0}: {1}")]
    Io(String, #[source] IoError),
    /// The kernel refuses the address.
    #[error(
        "[[trap]] listen = {listen:?}: cannot listen: {source}{}",
        hint(source)
    )]
    Bind {
        /// The address as configured.
        listen: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program (snmptrapd?) has this port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}

/// Which traps ask for a freeze.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    on: Vec<String>,
    ignore: Vec<String>,
}

impl Choice {
    pub(super) fn takes(&self, name: &str, oid: &str) -> bool {
        let is = |word: &String| {
            let under = word.strip_suffix('*').map(|prefix| oid.starts_with(prefix));
            word == name || word == oid || under == Some(true)
        };
        // The end of a fault belongs to the fault.
        let begun = names::ends(name).unwrap_or(name);
        let named = |words: &[String]| words.iter().any(|word| is(word) || word == begun);
        if named(&self.ignore) {
            return false;
        }
        match self.on.as_slice() {
            [] => !QUIET.contains(&name),
            on => named(on),
        }
    }
}

impl TrapConfig {
    fn address(&self) -> Result<SocketAddr, TrapError> {
        let address = self.listen.strip_prefix("udp://");
        let address = address.and_then(|address| address.parse().ok());
        address.ok_or_else(|| TrapError::Address(self.listen.clone()))
    }

    /// Checks all that can be checked without opening a socket or a file.
    pub fn validate(&self) -> Result<(), TrapError> {
        self.address()?;
        let listen = || self.listen.clone();
        if self.community.is_empty() && self.user.is_empty() {
            return Err(TrapError::Nobody(listen()));
        }
        if self.community.as_slice().iter().any(String::is_empty) {
            let why = "it is empty".to_owned();
            return Err(TrapError::Value(listen(), "community", why));
        }
        for (key, words) in [("on", &self.on), ("ignore", &self.ignore)] {
            let numbers = |word: &str| word.chars().all(|c| c.is_ascii_digit() || ".*".contains(c));
            let known =
                |word: &&String| names::is_trap(word) || (numbers(word) && !word.is_empty());
            if let Some(word) = words.iter().find(|word| !known(word)) {
                let why = format!(
                    "{word:?} is no trap known by name; write its numbers, such as \"1.3.6.1.4.1.9.*\""
                );
                return Err(TrapError::Value(listen(), key, why));
            }
        }
        let mut names = HashSet::new();
        for user in &self.user {
            user.validate()?;
            if !names.insert(&user.name) {
                let why = "is given twice".to_owned();
                return Err(TrapError::User(user.name.clone(), "name", why));
            }
        }
        Ok(())
    }

    /// Opens the socket, reads the passwords, and counts a start of the SNMP engine kept in
    /// `state_dir`.
    pub fn bind(&self, state_dir: &Path) -> Result<BoundTraps, TrapError> {
        self.validate()?;
        let io = |source| TrapError::Io(self.listen.clone(), source);
        let engine = Engine::open(state_dir).map_err(io)?;
        let users: Result<Vec<User>, _> = self.user.iter().map(TrapUser::keys).collect();
        let communities = self.community.as_slice().to_vec();
        let socket = open(self.address()?).map_err(|source| TrapError::Bind {
            listen: self.listen.clone(),
            source,
        })?;
        Ok(BoundTraps {
            name: self.listen.clone(),
            late: self.late,
            socket,
            guard: Guard::new(communities, users?, engine),
            choice: Choice {
                on: self.on.clone(),
                ignore: self.ignore.clone(),
            },
        })
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(&SockAddr::from(address))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl TrapUser {
    fn bad(&self, key: &'static str, why: &str) -> TrapError {
        TrapError::User(self.name.clone(), key, why.to_owned())
    }

    fn validate(&self) -> Result<(), TrapError> {
        if self.name.is_empty() || self.name.len() > 32 {
            return Err(self.bad("name", "use 1 to 32 characters"));
        }
        if self.privacy.is_some() && self.auth.is_none() {
            return Err(self.bad(
                "priv",
                "what is encrypted must be authenticated: give auth too",
            ));
        }
        for (key, wanted, given, file) in [
            (
                "auth_password",
                self.auth.is_some(),
                &self.auth_password,
                &self.auth_password_file,
            ),
            (
                "priv_password",
                self.privacy.is_some(),
                &self.priv_password,
                &self.priv_password_file,
            ),
        ] {
            if wanted != (given.is_some() != file.is_some()) {
                let why = if wanted {
                    "give it here or in a file, not both"
                } else {
                    "it is given, but not what it is for"
                };
                return Err(self.bad(key, why));
            }
            if given
                .as_ref()
                .is_some_and(|text| text.len() < PASSWORD_BYTES_MIN)
            {
                return Err(self.bad(key, "at least 8 characters (RFC 3414, section 11.2)"));
            }
        }
        Ok(())
    }

    /// The user with keys made of its passwords.
    fn keys(&self) -> Result<User, TrapError> {
        let auth = self.auth;
        let stretched = |key, given: &Option<String>, file: &Option<PathBuf>| {
            let password = match (given, file) {
                (Some(given), _) => given.clone(),
                (None, Some(file)) => {
                    let text = std::fs::read_to_string(file).at("read", file);
                    let text = text.map_err(|error| self.bad(key, &error.to_string()))?;
                    text.trim().to_owned()
                }
                (None, None) => return Ok(None),
            };
            if password.len() < PASSWORD_BYTES_MIN {
                return Err(self.bad(key, "at least 8 characters (RFC 3414, section 11.2)"));
            }
            Ok(auth.map(|auth| auth.stretch(&password)))
        };
        let auth_key = stretched(
            "auth_password",
            &self.auth_password,
            &self.auth_password_file,
        )?;
        let priv_key = stretched(
            "priv_password",
            &self.priv_password,
            &self.priv_password_file,
        )?;
        Ok(User {
            name: self.name.clone(),
            auth: auth.zip(auth_key),
            privacy: self.privacy.zip(priv_key),
        })
    }
}
