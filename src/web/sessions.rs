//! Sessions of the UI. The cookie holds 256 random bits; their digest is kept in memory and in
//! `sessions.json`, so that a restart of the server logs nobody out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accounts::{AccountError, Role};
use super::secret;
use super::statefile::StateFile;
use crate::time::Timestamp;

/// More sessions than this at once end the oldest.
const SESSIONS_MAX: usize = 1000;

/// One login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) user: String,
    /// The role of a login link made for somebody without an account; otherwise the account's
    /// present role counts.
    pub(super) link_role: Option<Role>,
    pub(super) created: Timestamp,
}

/// All sessions, by the digest of their secret.
#[derive(Debug)]
pub(super) struct Sessions {
    file: StateFile,
    lifetime: Duration,
    live: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Takes up the sessions of before the restart; a damaged file only costs a new login.
    pub(super) fn open(state_dir: &Path, lifetime: Duration) -> Self {
        let file = StateFile::new(state_dir, "sessions.json");
        let live = file.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "sessions are forgotten: everybody has to log in again");
            HashMap::new()
        });
        Self {
            file,
            lifetime,
            live: Mutex::new(live),
        }
    }

    /// Begins a session and returns the secret for its cookie.
    pub(super) fn begin(&self, session: Session) -> Result<String, AccountError> {
        let secret = secret::random()?;
        let now = session.created;
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.retain(|_, session| now.since(session.created) < self.lifetime);
            if live.len() >= SESSIONS_MAX {
                let oldest = live.iter().min_by_key(|(_, session)| session.created);
                if let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) {
                    live.remove(&oldest);
                }
            }
            live.insert(secret::digest(&secret), session);
        }
        self.save();
        Ok(secret)
    }

    /// The session of a cookie, if it is still good.
    pub(super) fn find(&self, secret: &str, now: Timestamp) -> Option<Session> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let session = live.get(&secret::digest(secret))?;
        (now.since(session.created) < self.lifetime).then(|| session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, secret: &str) {
        let ended = {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.remove(&secret::digest(secret))
        };
        if ended.is_some() {
            self.save();
        }
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A full disk must not keep people out: then the session lives in memory only.
    /// The copy is taken under the file's lock, so that of two saves the later one is the newer.
    fn save(&self) {
        let saved = self.file.change(|held: &mut HashMap<String, Session>| {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            held.clone_from(&live);
            Ok::<_, AccountError>(())
        });
        if let Err(error) = saved {
            tracing::warn!(%error, "sessions will not survive a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(created: u64) -> Session {
        Session {
            user: "mika".to_owned(),
            link_role: None,
            created: Timestamp::from_ns(created),
        }
    }

    #[test]
    fn a_session_survives_a_restart_but_not_its_lifetime_or_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let lifetime = Duration::from_nanos(100);
        let sessions = Sessions::open(dir.path(), lifetime);
        let secret = sessions.begin(session(10)).unwrap();
        let again = Sessions::open(dir.path(), lifetime);
        assert_eq!(
            again.find(&secret, Timestamp::from_ns(109)),
            Some(session(10))
        );
        assert_eq!(again.find(&secret, Timestamp::from_ns(110)), None);
        assert_eq!(again.find("guess", Timestamp::from_ns(11)), None);
        again.end(&secret);
        assert_eq!(again.find(&secret, Timestamp::from_ns(11)), None);
        let third = Sessions::open(dir.path(), lifetime);
        assert_eq!(third.find(&secret, Timestamp::from_ns(11)), None);
    }

    #[test]
    fn the_file_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path(), Duration::from_secs(1));
        let secret = sessions.begin(session(10)).unwrap();
        let text = std::fs::read_to_string(dir.path().join("sessions.json")).unwrap();
        assert!(!text.contains(&secret) && text.contains("mika"));
    }
}
