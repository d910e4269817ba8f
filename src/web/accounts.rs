//! Who may do what: users with passwords, programs with tokens. One file, `accounts.json`, which
//! the command line changes and the running server notices.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};

use super::secret::{self, NoRandom};
use super::statefile::{FileError, Stamp, StateFile};
use crate::time::Timestamp;

/// Shorter passwords are refused.
const PASSWORD_CHARS_MIN: usize = 8;
/// Longer ones too: hashing them would be work for an attacker to give us.
pub(super) const PASSWORD_BYTES_MAX: usize = 1024;
pub(super) const NAME_BYTES_MAX: usize = 64;

/// What an account may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads lists, status and flows.
    Viewer,
    /// Also freezes and downloads packets.
    Analyst,
    /// Everything.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "analyst" => Ok(Self::Analyst),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("{text:?} is no role: viewer, analyst or admin")),
        }
    }
}

/// Why an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No randomness for salt or token.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The name cannot be used.
    #[error("{0:?} cannot be a name: 1 to 64 letters, digits and . _ - @")]
    BadName(String),
    /// The password cannot be used.
    #[error("the password must have at least 8 characters and at most 1024 bytes")]
    BadPassword,
    /// It is there already.
    #[error("there is already a {what} {name:?}")]
    Exists {
        /// `user` or `token`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is not there.
    #[error("there is no user or token {0:?}")]
    Unknown(String),
    /// The password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    name: String,
    role: Role,
    /// PHC string of Argon2id.
    password: String,
    /// Sessions older than this ended.
    changed: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    name: String,
    role: Role,
    sha256: String,
    created: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Book {
    version: u32,
    users: Vec<User>,
    tokens: Vec<Token>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            version: 1,
            users: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

impl Book {
    fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }
}

/// One line of `user list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// `user` or `token`.
    pub kind: &'static str,
    /// When the token was made, or the password last set.
    pub changed: Timestamp,
}

/// The accounts of one installation.
#[derive(Debug)]
pub struct Accounts {
    file: StateFile,
    held: Mutex<(Stamp, Arc<Book>)>,
    /// Verified when a user is unknown, so that an answer takes as long as for a known one.
    decoy: String,
}

impl Accounts {
    /// The accounts in `accounts.json` of the state directory; the file need not exist yet.
    pub fn open(state_dir: &Path) -> Result<Self, AccountError> {
        let file = StateFile::new(state_dir, "accounts.json");
        let stamp = file.stamp();
        let book = file.read()?;
        Ok(Self {
            file,
            held: Mutex::new((stamp, Arc::new(book))),
            decoy: hash(&secret::random()?)?,
        })
    }

    /// Adds a user.
    pub fn add(&self, name: &str, password: &str, role: Role) -> Result<(), AccountError> {
        check_name(name)?;
        let user = User {
            name: name.to_owned(),
            role,
            password: hash(password)?,
            changed: Timestamp::now(),
        };
        self.file.change(|book: &mut Book| {
            if book.user(name).is_some() {
                return Err(exists("user", name));
            }
            book.users.push(user);
            Ok(())
        })
    }

    /// Sets a user's password, which ends the user's sessions.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), AccountError> {
        let password = hash(password)?;
        self.file.change(|book: &mut Book| {
            let user = book.users.iter_mut().find(|user| user.name == name);
            let user = user.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
            user.password = password;
            user.changed = Timestamp::now();
            Ok(())
        })
    }

    /// Removes the user or token of this name.
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.file.change(|book: &mut Book| {
            let before = book.users.len() + book.tokens.len();
            book.users.retain(|user| user.name != name);
            book.tokens.retain(|token| token.name != name);
            if book.users.len() + book.tokens.len() == before {
                return Err(AccountError::Unknown(name.to_owned()));
            }
            Ok(())
        })
    }

    /// Makes a token and returns it; only its digest is kept.
    pub fn create_token(&self, name: &str, role: Role) -> Result<String, AccountError> {
        check_name(name)?;
        let token = format!("ww_{}", secret::random()?);
        let kept = Token {
            name: name.to_owned(),
            role,
            sha256: secret::digest(&token),
            created: Timestamp::now(),
        };
        self.file.change(|book: &mut Book| {
            if book.tokens.iter().any(|token| token.name == name) {
                return Err(exists("token", name));
            }
            book.tokens.push(kept);
            Ok(token)
        })
    }

    /// Users and tokens by name, without their secrets.
    pub fn list(&self) -> Result<Vec<Listed>, AccountError> {
        let book = self.book()?;
        let users = book.users.iter().map(|user| Listed {
            name: user.name.clone(),
            role: user.role,
            kind: "user",
            changed: user.changed,
        });
        let tokens = book.tokens.iter().map(|token| Listed {
            name: token.name.clone(),
            role: token.role,
            kind: "token",
            changed: token.created,
        });
        let mut all: Vec<_> = users.chain(tokens).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The role of a user, and when the password was last set.
    pub(super) fn user(&self, name: &str) -> Result<Option<(Role, Timestamp)>, AccountError> {
        let book = self.book()?;
        Ok(book.user(name).map(|user| (user.role, user.changed)))
    }

    /// Name and role behind a token.
    pub(super) fn token(&self, token: &str) -> Result<Option<(String, Role)>, AccountError> {
        let (book, digest) = (self.book()?, secret::digest(token));
        let found = book.tokens.iter().find(|token| token.sha256 == digest);
        Ok(found.map(|token| (token.name.clone(), token.role)))
    }

    /// The user's role if the password is right. Slow on purpose: call it where blocking is
    /// allowed.
    pub(super) fn verify(&self, name: &str, password: &str) -> Result<Option<Role>, AccountError> {
        let book = self.book()?;
        let user = book.user(name);
        let kept = user.map_or(self.decoy.as_str(), |user| user.password.as_str());
        let right = password.len() <= PASSWORD_BYTES_MAX
            && PasswordHash::new(kept).is_ok_and(|kept| {
                Argon2::default()
                    .verify_password(password.as_bytes(), &kept)
                    .is_ok()
            });
        Ok(user.filter(|_| right).map(|user| user.role))
    }

    /// The present content, read again when the file was replaced.
    fn book(&self) -> Result<Arc<Book>, AccountError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp();
        if stamp != held.0 {
            *held = (stamp, Arc::new(self.file.read()?));
        }
        Ok(Arc::clone(&held.1))
    }
}

fn hash(password: &str) -> Result<String, AccountError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(AccountError::BadPassword);
    }
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| AccountError::Hash(error.to_string()))
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(AccountError::BadName(name.to_owned()))
    }
}

fn exists(what: &'static str, name: &str) -> AccountError {
    AccountError::Exists {
        what,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_process_sees_what_the_first_changed() {
        let dir = tempfile::tempdir().unwrap();
        let server = Accounts::open(dir.path()).unwrap();
        let command = Accounts::open(dir.path()).unwrap();
        command.add("mika", "correct horse", Role::Analyst).unwrap();
        assert_eq!(
            server.verify("mika", "correct horse").unwrap(),
            Some(Role::Analyst)
        );
        assert_eq!(server.verify("mika", "wrong horse").unwrap(), None);
        assert_eq!(server.verify("nobody", "correct horse").unwrap(), None);
        command.set_password("mika", "another horse").unwrap();
        assert_eq!(server.verify("mika", "correct horse").unwrap(), None);
        command.remove("mika").unwrap();
        assert_eq!(server.user("mika").unwrap(), None);
    }

    #[test]
    fn the_file_is_private_and_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        accounts.add("mika", "correct horse", Role::Viewer).unwrap();
        let token = accounts.create_token("backup", Role::Viewer).unwrap();
        let path = dir.path().join("accounts.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token) && !text.contains("correct horse"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            accounts.token(&token).unwrap(),
            Some(("backup".to_owned(), Role::Viewer))
        );
        assert_eq!(accounts.token("ww_00").unwrap(), None);
    }

    #[test]
    fn bad_names_short_passwords_and_doubles_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        for name in ["", "../x", "a b", "a\r\nb", &"x".repeat(65)] {
            let result = accounts.add(name, "correct horse", Role::Viewer);
            assert!(matches!(result, Err(AccountError::BadName(_))), "{name:?}");
        }
        let short = accounts.add("mika", "1234567", Role::Viewer);
        assert!(matches!(short, Err(AccountError::BadPassword)));
        accounts.add("mika", "12345678", Role::Viewer).unwrap();
        let double = accounts.add("mika", "12345678", Role::Admin);
        assert!(matches!(double, Err(AccountError::Exists { .. })));
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.json");
        std::fs::write(&path, "{\"version\": 1, \"users\": [").unwrap();
        let error = Accounts::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap().len(), 25);
    }
}
