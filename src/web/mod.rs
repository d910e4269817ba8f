//! The web face: API, login, events, metrics and the embedded UI, over TCP and a unix socket.
//! `docs/API.md` is its contract; [`routes`] holds the table of all routes.

mod accounts;
mod assets;
mod auth;
mod body;
mod config;
mod guard;
mod links;
mod listen;
mod openapi;
mod problem;
mod routes;
mod secret;
mod serve;
mod session;
mod sessions;
mod state;
mod statefile;
#[cfg(test)]
mod tests;
mod throttle;

pub use accounts::{AccountError, Accounts, Listed, Role};
pub use config::WebConfig;
pub use links::{LINK_LIFETIME, create_login_link};
pub use listen::{BindError, Bound, bind};
pub use problem::Problem;
pub use secret::NoRandom;
pub use serve::serve;
pub use state::App;
pub use statefile::FileError;
