//! Who is asking: the unix socket's user, a bearer token, or a session cookie.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::accounts::{AccountError, Accounts, NAME_BYTES_MAX, PASSWORD_BYTES_MAX, Role};
use super::links;
use super::problem::Problem;
use super::serve::Peer;
use super::sessions::{Session, Sessions};
use super::state::App;
use super::throttle::{Throttle, client_key};
use crate::time::Timestamp;

/// The cookie of a session.
pub(super) const COOKIE_NAME: &str = "wirewitness_session";
/// Attempts to log in, per client.
const ATTEMPTS_PER_CLIENT: u32 = 10;
/// And per account, from wherever they come.
const ATTEMPTS_PER_ACCOUNT: u32 = 20;
const ATTEMPTS_REFILL: Duration = Duration::from_mins(15);
/// Password hashes computed at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;

/// Somebody we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) name: String,
    pub(super) role: Role,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: the few routes that work without login.
    Open,
    /// A token of its own, which the route checks.
    Hook,
    /// At least this role.
    Role(Role),
}

/// Accounts, sessions and the throttle of the login.
#[derive(Debug)]
pub(super) struct Auth {
    state_dir: PathBuf,
    accounts: Accounts,
    sessions: Sessions,
    clients: Mutex<Throttle>,
    names: Mutex<Throttle>,
    hashes: Semaphore,
    own_uid: u32,
}

impl Auth {
    pub(super) fn open(state_dir: &Path, session: Duration) -> Result<Self, AccountError> {
        Ok(Self {
            state_dir: state_dir.to_owned(),
            accounts: Accounts::open(state_dir)?,
            sessions: Sessions::open(state_dir, session),
            clients: Mutex::new(Throttle::new(ATTEMPTS_PER_CLIENT, ATTEMPTS_REFILL)),
            names: Mutex::new(Throttle::new(ATTEMPTS_PER_ACCOUNT, ATTEMPTS_REFILL)),
            hashes: Semaphore::new(HASHES_AT_ONCE),
            own_uid: rustix::process::geteuid().as_raw(),
        })
    }

    /// Who is asking, if it is somebody.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<Peer>,
        now: Timestamp,
    ) -> Result<Option<Principal>, AccountError> {
        if let Some(Peer::Unix { uid }) = peer
            && (uid == 0 || uid == self.own_uid)
        {
            let name = format!("uid {uid}");
            let role = Role::Admin;
            return Ok(Some(Principal { name, role }));
        }
        if let Some(header) = headers.get(AUTHORIZATION) {
            let found = match bearer(header) {
                Some(token) => self.accounts.token(token)?,
                None => None,
            };
            return Ok(found.map(|(name, role)| Principal { name, role }));
        }
        let Some(session) = cookie(headers).and_then(|secret| self.sessions.find(secret, now))
        else {
            return Ok(None);
        };
        let role = match self.accounts.user(&session.user)? {
            // A new password ends the sessions of before.
            Some((role, changed)) => (changed <= session.created).then_some(role),
            None => session.link_role,
        };
        let name = session.user;
        Ok(role.map(|role| Principal { name, role }))
    }

    /// Checks name and password, as often as the throttle allows.
    pub(super) async fn login(
        self: &Arc<Self>,
        name: String,
        password: String,
        peer: Option<Peer>,
    ) -> Result<(Principal, String), Problem> {
        let client = throttle_key(peer);
        take(&self.clients, &client)?;
        // No account has such a name or password: nothing of it is kept or logged.
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(bad_credentials());
        }
        take(&self.names, &name)?;
        let _permit = self.hashes.acquire().await;
        let auth = Arc::clone(self);
        let started = Timestamp::now();
        let verified = tokio::task::spawn_blocking(move || {
            let role = auth.accounts.verify(&name, &password)?;
            Ok::<_, AccountError>((name, role))
        });
        let (name, role) = verified
            .await
            .map_err(|error| Problem::internal("login", error))?
            .map_err(|error| Problem::internal("login", error))?;
        let Some(role) = role else {
            tracing::warn!(user = ?name, client, "login refused");
            return Err(bad_credentials());
        };
        clear(&self.clients, &client);
        clear(&self.names, &name);
        self.begin(Principal { name, role }, None, started)
    }

    /// Uses a one-time link up.
    pub(super) fn login_by_link(
        &self,
        code: &str,
        peer: Option<Peer>,
    ) -> Result<(Principal, String), Problem> {
        let client = throttle_key(peer);
        take(&self.clients, &client)?;
        let now = Timestamp::now();
        let redeemed = links::redeem(&self.state_dir, code, now)
            .map_err(|error| Problem::internal("login", error))?;
        let Some((name, link_role)) = redeemed else {
            tracing::warn!(client, "login link refused");
            return Err(bad_credentials());
        };
        clear(&self.clients, &client);
        let account = self.accounts.user(&name);
        let account = account.map_err(|error| Problem::internal("login", error))?;
        let (role, kept) = match account {
            Some((role, _)) => (role, None),
            None => (link_role, Some(link_role)),
        };
        self.begin(Principal { name, role }, kept, now)
    }

    fn begin(
        &self,
        principal: Principal,
        link_role: Option<Role>,
        now: Timestamp,
    ) -> Result<(Principal, String), Problem> {
        let session = Session {
            user: principal.name.clone(),
            link_role,
            created: now,
        };
        let secret = self.sessions.begin(session);
        let secret = secret.map_err(|error| Problem::internal("login", error))?;
        tracing::info!(user = principal.name, role = %principal.role, "logged in");
        Ok((principal, secret))
    }

    /// Ends the session of the cookie, if there is one.
    pub(super) fn logout(&self, headers: &HeaderMap) {
        if let Some(secret) = cookie(headers) {
            self.sessions.end(secret);
        }
    }

    /// How long a session lasts.
    pub(super) fn session_lifetime(&self) -> Duration {
        self.sessions.lifetime()
    }
}

/// The layer of each route: lets in who may come in.
pub(super) async fn authorise(
    State((app, access)): State<(App, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Access::Role(needed) = access else {
        return next.run(request).await;
    };
    let peer = request.extensions().get::<Peer>().copied();
    let identified = app
        .auth()
        .identify(request.headers(), peer, Timestamp::now());
    let principal = match identified {
        Ok(Some(principal)) => principal,
        Ok(None) => return unauthorized().into_response(),
        Err(error) => return Problem::internal("reading the accounts", error).into_response(),
    };
    let mut response = if principal.role >= needed {
        request.extensions_mut().insert(principal.clone());
        next.run(request).await
    } else {
        let detail = format!(
            "{} is {}; this takes the role {needed}",
            principal.name, principal.role
        );
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).into_response()
    };
    response.extensions_mut().insert(principal);
    response
}

struct Unauthorized;

impl IntoResponse for Unauthorized {
    fn into_response(self) -> Response {
        let mut response = Problem::new(
            StatusCode::UNAUTHORIZED,
            "not_logged_in",
            "log in, or send a token: Authorization: Bearer TOKEN (wirewitness token create)",
        )
        .into_response();
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        response
    }
}

fn unauthorized() -> Unauthorized {
    Unauthorized
}

fn bad_credentials() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "bad_credentials",
        "user and password do not match, or the login link was used or is too old",
    )
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(COOKIE).iter();
    let mut pairs = pairs
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

fn throttle_key(peer: Option<Peer>) -> String {
    match peer {
        Some(Peer::Tcp { remote, .. }) => client_key(remote.ip()),
        Some(Peer::Unix { uid }) => format!("uid {uid}"),
        None => client_key(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    }
}

fn take(throttle: &Mutex<Throttle>, key: &str) -> Result<(), Problem> {
    let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
    throttle.take(key, Instant::now()).map_err(|wait| {
        let seconds = wait.as_secs() + 1;
        let detail = format!("too many attempts to log in; try again in {seconds} s");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail)
            .retry_after(seconds)
    })
}

fn clear(throttle: &Mutex<Throttle>, key: &str) {
    let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
    throttle.clear(key);
}
