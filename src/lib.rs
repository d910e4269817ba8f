//! wirewitness: a dashcam for networks.
//!
//! A *recorder* always writes the packets of one or more interfaces into a ring of pcapng
//! segments; a *server* turns triggers (probes, log lines, webhooks, people) into *incidents*:
//! hard links to the segments around the moment, sealed, indexed and handed out as pcaps.
//!
//! The modules stand in the order of the data. A module imports only from those before it;
//! `tests/tidy.rs` reads this very list and enforces it.
//!
//! | layer | holds |
//! | --- | --- |
//! | [`time`], [`error`], [`counters`], [`clock`] | the words: nanosecond timestamps and windows, I/O errors that name what and where, packet counters by cause, what the clock was worth |
//! | [`tls`] | certificates and keys from files, who may connect, whom we trust |
//! | [`pcapng`] | encode and decode blocks: bytes in, bytes out, no I/O |
//! | [`packet`] | BPF filters, five-tuples, flow keys, one-line summaries |
//! | [`ring`] | segment names, catalog, reader, recovery |
//! | [`recorder`] | capture, slots, keeper, control socket: the process that must not fail |
//! | [`trigger`] | what can ask for a freeze: rules, probe, syslog, log file, webhook, manual |
//! | [`incident`] | journal, life cycle, freeze, seal, manifest, custody, retention |
//! | [`index`] | SQLite: flows of sealed incidents; a cache that `reindex` rebuilds |
//! | [`export`] | a window plus a filter as pcapng or pcap, streamed |
//! | [`drill`] | drills: a marked trigger through the real path of a source, read back as sealed evidence |
//! | [`notify`] | news of incidents and of our own trouble, told by hook, chat, mail and syslog |
//! | [`web`] | routes, login, events, the embedded UI |
//! | [`config`], [`cli`], [`daemon`] | assembly: may import anything, nothing imports them |

pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod drill;
pub mod error;
pub mod export;
pub mod incident;
pub mod index;
pub mod notify;
pub mod packet;
pub mod pcapng;
pub mod recorder;
pub mod ring;
pub mod time;
pub mod tls;
pub mod trigger;
pub mod web;
