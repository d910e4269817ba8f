//! The process that must not fail: captures packets and writes the ring. It parses no packet.
//!
//! ```text
//! the kernel's mapped buffer --capture--> slot --pump--> segment file --keeper--> ring --store--> incidents
//! ```
//!
//! [`capture`] is one thread per interface, live or replayed, or several that share its packets
//! ([`fanout`]), which take their packets from a `source`; [`writer`] puts packets together in a `stage` and hands
//! them on to [`slots`], mapped memory that outlives the process, and says so in [`events`]; [`pump`] is a second thread that writes them to a
//! [`segment_file`], [`keeper`] a third that waits for the medium and names the file in the ring, and [`held`] is the slot that both may
//! give back, and [`doubts`] what is then not known to be on the medium; [`store`] unlinks and links what [`budget`] and pins say;
//! [`order`] keeps the segments' names true when the clock is set. [`ledger`] and [`seconds`] keep the
//! accounting, a line a second. [`watch`] looks at clock and links when [`link_events`] says that one changed, `device` is what sysfs says of one; [`priority`]
//! has all of this go ahead of other programs.
//! [`service`] puts them together, [`control`] lets the server ask, [`recovery`] runs first.

mod blocks;
pub mod budget;
pub mod capture;
pub mod client;
pub mod config;
pub mod control;
mod device;
pub mod doubts;
pub mod events;
pub mod fanout;
pub mod gaps;
mod handover;
pub mod held;
pub mod keeper;
mod layout;
pub mod ledger;
pub mod link_events;
mod live;
mod mapping;
mod member;
pub mod open;
pub mod order;
mod port;
pub mod priority;
pub mod protocol;
pub mod pump;
pub mod recovery;
pub mod release;
mod replay;
#[cfg(test)]
mod rig;
pub mod seconds;
pub mod segment_file;
pub mod service;
pub mod shared;
pub mod slots;
pub mod socket;
mod source;
mod stage;
pub mod store;
pub mod sync;
pub mod watch;
pub mod writer;
