//! Black-box tests: the program itself, real interfaces in network namespaces, real senders.
//!
//! They need root for the namespaces and skip, loudly, without it (an error where `CI` is set).
//! `WW_LONG=1` runs the crash and load tests at their full length (`make soak`); `WIREWITNESS_BIN` names another
//! program to test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod account;
mod badinput;
mod cli;
mod clock;
mod comparison;
mod crash;
mod demo;
mod device;
mod drills;
mod fanout;
mod freeze;
mod goals;
mod hostile;
mod journal;
mod lateness;
mod links;
mod live;
mod maintenance;
mod notify;
mod posix;
mod power;
mod probes;
mod readable;
mod reload;
mod rig;
mod rules;
mod security;
mod stall;
mod storm;
mod support;
mod syslog;
mod thrift;
mod tls;
mod traps;
mod triggers;
mod webhooks;
