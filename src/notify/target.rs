//! A target with everything it needs to send: secrets and authorities read, addresses taken apart.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::config::{NotifyConfig, NotifyError, NotifyKind};
use super::event::{Event, News};
use super::send::Failure;
use super::send::mail::{self, Mail};
use super::send::post::{self, Post};
use super::send::syslog::{self, Line};
use super::shape::{self, Look};
use super::status::{Counts, TargetState};
use crate::time::Timestamp;
use crate::tls::{Trust, connector};
use crate::trigger::webhook::check_secret;

/// A target.
pub struct Target {
    config: NotifyConfig,
    look: Look,
    sender: Sender,
    counts: Mutex<Counts>,
    more: Notify,
}

enum Sender {
    Post(Post),
    Mail(Mail),
    Syslog(Line),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.config).finish()
    }
}

/// Reads what the targets need: before rights are dropped, since only root may read most secrets.
pub fn open(configs: &[NotifyConfig]) -> Result<Vec<Target>, NotifyError> {
    configs.iter().map(Target::open).collect()
}

/// Checks what the target's kind needs, without reading a file.
pub(super) fn check(config: &NotifyConfig) -> Result<(), NotifyError> {
    match config.kind {
        NotifyKind::Email => mail::check(config),
        NotifyKind::Syslog => {
            let address = config.need("address", config.address.as_deref())?;
            let parsed = syslog::Address::parse(address);
            parsed.map_err(|why| config.bad("address", why)).map(drop)
        }
        _ => {
            if let Some(url) = &config.url {
                post::Place::parse(url).map_err(|why| config.bad("url", why))?;
            } else {
                config.need("url", config.url_file.as_deref())?;
            }
            match &config.hmac_secret {
                Some(secret) => check_secret(secret).map_err(|why| config.bad("hmac_secret", why)),
                None => Ok(()),
            }
        }
    }
}

impl Target {
    fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let look = Look::new(config.language, config.base_url.as_deref());
        let sender = match config.kind {
            NotifyKind::Email => Sender::Mail(Mail::open(config, &look.host)?),
            NotifyKind::Syslog => Sender::Syslog(Line::open(config)?),
            _ => Sender::Post(Post::open(config)?),
        };
        Ok(Self {
            config: config.clone(),
            look,
            sender,
            counts: Mutex::default(),
            more: Notify::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn kind(&self) -> NotifyKind {
        self.config.kind
    }

    pub(super) fn wants(&self, news: &News) -> bool {
        self.config.wants(news)
    }

    /// Where it goes, without what is secret of it.
    pub(super) fn to(&self) -> &str {
        match &self.sender {
            Sender::Post(post) => post.to(),
            Sender::Mail(mail) => mail.to(),
            Sender::Syslog(line) => line.to(),
        }
    }

    /// Whether many pieces of news are better told as one. Syslog is read by machines.
    pub(super) fn sums_up(&self) -> bool {
        self.config.kind != NotifyKind::Syslog
    }

    pub(super) fn wake(&self) {
        self.more.notify_one();
    }

    /// Waits until there may be more to send.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends pieces of news, one or summed up, within the target's time.
    pub(super) async fn send(&self, events: &[Event]) -> Result<(), Failure> {
        let sending = async {
            match &self.sender {
                Sender::Post(post) => {
                    let body = shape::body(self.config.kind, events, &self.look);
                    post.send(&shape::id(events), &body, Timestamp::now()).await
                }
                Sender::Mail(mail) => mail.send(events, &self.look).await,
                Sender::Syslog(line) => line.send(events, &self.look).await,
            }
        };
        let limit = self.config.timeout;
        match tokio::time::timeout(limit, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::later(format!(
                "no answer within {}",
                humantime::format_duration(limit)
            ))),
        }
    }

    /// Notes how an attempt to send `count` pieces of news ended.
    pub(super) fn note(&self, sent: &Result<(), Failure>, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let mut counts = self.counts();
        match sent {
            Ok(()) => {
                counts.state = TargetState::Ok;
                counts.sent += count;
                counts.last_sent = Some(Timestamp::now());
            }
            Err(failure) => {
                counts.state = TargetState::Failing;
                failure.to_string().clone_into(&mut counts.last_error);
                if failure.is_final() {
                    counts.failed += count;
                }
            }
        }
    }
}

/// The authorities for a target, if it needs any.
pub(super) fn roots(config: &NotifyConfig) -> Result<tokio_rustls::TlsConnector, NotifyError> {
    let trust = config
        .ca_file
        .as_deref()
        .map_or(Trust::Machine, |path| Trust::Also("ca_file", path));
    connector(trust).map_err(|error| NotifyError::Tls(config.name.clone(), error))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A target that is never sent to.
    pub(in crate::notify) fn target(name: &str) -> Target {
        let text =
            format!("name = \"{name}\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n");
        Target::open(&toml::from_str(&text).unwrap()).unwrap()
    }
}
