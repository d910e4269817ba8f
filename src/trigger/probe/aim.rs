//! Where probes of a target go now. Never waits: a name server that hangs must not delay a probe.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::Target;
use super::route;

/// A name that does not resolve, or whose address does not answer, is asked for again this often.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// The default route is looked up this often at most.
const GATEWAY_FRESH: Duration = Duration::from_millis(500);

/// What a name resolved to, put there by who asked for it.
pub(super) type Resolved = Arc<Mutex<Option<Result<Vec<IpAddr>, String>>>>;

/// A name to be resolved, and where the answer goes.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) name: String,
    pub(super) answer: Resolved,
}

/// Where probes go.
#[derive(Debug)]
pub(super) struct Aim {
    target: Target,
    port: u16,
    last: Option<SocketAddr>,
    resolved: Resolved,
    asked: Option<Instant>,
    looked: Option<Instant>,
    why: String,
}

/// There is no address to send to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The one there was before.
    pub(super) last: Option<SocketAddr>,
    pub(super) why: String,
}

impl Aim {
    pub(super) fn new(target: Target, port: u16) -> Self {
        Self {
            target,
            port,
            last: None,
            resolved: Resolved::default(),
            asked: None,
            looked: None,
            why: "its name is being resolved".to_owned(),
        }
    }

    /// The address to send to, and a name to be resolved if that is needed. `usable` tells whether
    /// addresses like it can be probed.
    pub(super) fn now(
        &mut self,
        now: Instant,
        usable: impl Fn(IpAddr) -> Result<(), String>,
    ) -> (Result<SocketAddr, Missing>, Option<Lookup>) {
        let mut lookup = None;
        let address = match &self.target {
            Target::Address(address) => Some(*address),
            Target::Gateway => self.gateway(now),
            Target::Name(_) => {
                self.take_answer(&usable);
                if self.last.is_none() {
                    lookup = self.ask(now);
                }
                self.last
            }
        };
        let Some(mut address) = address else {
            let (last, why) = (self.last, self.why.clone());
            return (Err(Missing { last, why }), lookup);
        };
        address.set_port(self.port);
        if let Err(why) = usable(address.ip()) {
            let why = format!("no socket for {}: {why}", address.ip());
            return (Err(Missing { last: None, why }), lookup);
        }
        self.last = Some(address);
        (Ok(address), lookup)
    }

    /// The last probe was lost: the name may have another address by now.
    pub(super) fn doubt(&mut self, now: Instant) -> Option<Lookup> {
        self.ask(now)
    }

    fn gateway(&mut self, now: Instant) -> Option<SocketAddr> {
        let fresh = self
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < GATEWAY_FRESH);
        if fresh && self.last.is_some() {
            return self.last;
        }
        let found = route::gateway();
        self.looked = found.map(|_| now);
        if found.is_none() {
            "this machine has no default route".clone_into(&mut self.why);
        }
        found
    }

    fn take_answer(&mut self, usable: &impl Fn(IpAddr) -> Result<(), String>) {
        let answer = self.resolved.lock();
        let Some(answer) = answer.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let Target::Name(name) = &self.target else {
            return;
        };
        match answer {
            Ok(addresses) => {
                let found = addresses
                    .into_iter()
                    .find(|address| usable(*address).is_ok());
                match found {
                    Some(address) => self.last = Some(SocketAddr::new(address, self.port)),
                    None => self.why = format!("{name} has no address of a family we can probe"),
                }
            }
            Err(why) => self.why = format!("cannot resolve {name}: {why}"),
        }
    }

    /// Asks for the name, unless that was done just now.
    fn ask(&mut self, now: Instant) -> Option<Lookup> {
        let Target::Name(name) = &self.target else {
            return None;
        };
        let recent = |asked| now.saturating_duration_since(asked) < RESOLVE_EVERY;
        if self.asked.is_some_and(recent) {
            return None;
        }
        self.asked = Some(now);
        Some(Lookup {
            name: name.clone(),
            answer: Arc::clone(&self.resolved),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_IPV6: fn(IpAddr) -> Result<(), String> = |address| {
        let usable = address.is_ipv4().then_some(());
        usable.ok_or_else(|| "no IPv6".to_owned())
    };

    #[test]
    fn a_name_is_asked_for_without_waiting_and_not_too_often() {
        let mut aim = Aim::new(Target::Name("router.example".to_owned()), 53);
        let now = Instant::now();
        let (address, lookup) = aim.now(now, NO_IPV6);
        assert_eq!(address.unwrap_err().why, "its name is being resolved");
        let lookup = lookup.unwrap();
        assert_eq!(lookup.name, "router.example");
        assert!(
            aim.now(now, NO_IPV6).1.is_none(),
            "it was asked for just now"
        );
        *lookup.answer.lock().unwrap() = Some(Err("no such host".to_owned()));
        let why = aim.now(now, NO_IPV6).0.unwrap_err().why;
        assert_eq!(why, "cannot resolve router.example: no such host");
        let (_, lookup) = aim.now(now + RESOLVE_EVERY, NO_IPV6);
        let addresses = ["::1", "192.0.2.1"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        *lookup.unwrap().answer.lock().unwrap() = Some(Ok(addresses));
        let (address, _) = aim.now(now + RESOLVE_EVERY, NO_IPV6);
        assert_eq!(address, Ok("192.0.2.1:53".parse().unwrap()));
        assert!(aim.doubt(now + RESOLVE_EVERY).is_none());
        assert!(aim.doubt(now + 2 * RESOLVE_EVERY).is_some());
    }
}
