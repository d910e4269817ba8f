//! The web face: API, login, events, metrics and the embedded UI, over TCP and a unix socket.
//! `docs/API.md` is its contract; `routes` holds the table of all routes.

mod accounts;
mod assets;
mod auth;
mod body;
mod bundle;
mod config;
mod download;
mod drills;
mod events;
mod flows;
mod freeze;
mod guard;
mod health;
mod hooks;
mod incidents;
mod keys;
mod links;
mod listen;
mod lookback;
mod metrics;
mod notify;
mod openapi;
mod pcap;
mod probes;
mod problem;
mod routes;
mod secret;
mod serve;
mod session;
mod sessions;
mod state;
mod statefile;
mod status;
#[cfg(test)]
mod tests;
mod throttle;
mod timeline;

pub use accounts::{AccountError, Accounts, Listed, Role};
pub use config::WebConfig;
pub use keys::Keys;
pub use links::{LINK_LIFETIME, create_login_link};
pub use listen::{BindError, Bound, bind};
pub use problem::Problem;
pub use secret::NoRandom;
pub use serve::serve;
pub use state::{App, Parts};
pub use statefile::FileError;
