//! One-time login links: the first way in, made by whoever may write the state directory.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accounts::{AccountError, Role};
use super::secret;
use super::statefile::StateFile;
use crate::time::Timestamp;

/// How long a login link is good.
pub const LINK_LIFETIME: Duration = Duration::from_mins(15);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Link {
    sha256: String,
    user: String,
    role: Role,
    expires: Timestamp,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Pending {
    links: Vec<Link>,
}

/// Makes a code that logs `user` in once, as `role` if there is no such account. It belongs
/// behind the `#` of an address (`/#login=CODE`), so that no log of any server sees it.
pub fn create_login_link(
    state_dir: &Path,
    user: &str,
    role: Role,
    now: Timestamp,
) -> Result<String, AccountError> {
    let code = secret::random()?;
    let link = Link {
        sha256: secret::digest(&code),
        user: user.to_owned(),
        role,
        expires: now.plus(LINK_LIFETIME),
    };
    file(state_dir).change(|pending: &mut Pending| {
        pending.links.retain(|link| link.expires > now);
        pending.links.push(link);
        Ok(code)
    })
}

/// Uses a code up and says for whom it was made.
pub(super) fn redeem(
    state_dir: &Path,
    code: &str,
    now: Timestamp,
) -> Result<Option<(String, Role)>, AccountError> {
    let digest = secret::digest(code);
    let file = file(state_dir);
    // A wrong code writes nothing: guessing must not cost the disk a sync each.
    let good = |link: &Link| link.sha256 == digest && link.expires > now;
    if !file.read::<Pending>()?.links.iter().any(good) {
        return Ok(None);
    }
    file.change(|pending: &mut Pending| {
        let found = pending.links.iter().position(good);
        let link = found.map(|position| pending.links.swap_remove(position));
        Ok(link.map(|link| (link.user, link.role)))
    })
}

fn file(state_dir: &Path) -> StateFile {
    StateFile::new(state_dir, "links.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_once_and_only_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_ns(1_000);
        let code = create_login_link(dir.path(), "admin", Role::Admin, now).unwrap();
        let late = now.plus(LINK_LIFETIME);
        assert_eq!(redeem(dir.path(), &code, late).unwrap(), None);
        assert_eq!(redeem(dir.path(), "guess", now).unwrap(), None);
        let who = Some(("admin".to_owned(), Role::Admin));
        assert_eq!(redeem(dir.path(), &code, now).unwrap(), who);
        assert_eq!(redeem(dir.path(), &code, now).unwrap(), None);
    }

    #[test]
    fn of_many_at_once_exactly_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_ns(1_000);
        let code = create_login_link(dir.path(), "admin", Role::Admin, now).unwrap();
        let wins = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| redeem(dir.path(), &code, now).unwrap().is_some()))
                .collect();
            let won = racers.into_iter().map(|racer| racer.join().unwrap());
            won.filter(|won| *won).count()
        });
        assert_eq!(wins, 1);
    }
}
