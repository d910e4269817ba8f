//! Who may send: communities, and the users of SNMPv3 with their keys, engines and time windows
//! (RFC 3414, section 3.2).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ber::{self, Malformed, Oid, Reader};
use super::engine::Engine;
use super::pdu::{self, Notice};
use super::usm::{Auth, Priv};

/// How far a message's time may be from its engine's (RFC 3414, 2.2.3).
const WINDOW: Duration = Duration::from_secs(150);
/// Engines whose time is remembered.
const ENGINES_MAX: usize = 4096;
/// The last value of boots: an engine that reached it takes nothing any more.
const BOOTS_MAX: u32 = 0x7fff_ffff;
/// The largest message we take, as we tell.
const MESSAGE_BYTES_MAX: i64 = 65_507;
const FLAG_AUTH: u8 = 1;
const FLAG_PRIV: u8 = 2;
const FLAG_REPORTABLE: u8 = 4;
const USM: i64 = 3;
/// `usmStats` of SNMP-USER-BASED-SM-MIB.
const USM_STATS: [u32; 9] = [1, 3, 6, 1, 6, 3, 15, 1, 1];

/// A user with keys that are not made an engine's yet.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) auth: Option<(Auth, Vec<u8>)>,
    pub(super) privacy: Option<(Priv, Vec<u8>)>,
}

impl std::fmt::Debug for User {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the community or user is not known")]
    User,
    #[error("the user's messages must be authenticated and encrypted as configured")]
    Level,
    #[error("the digest is wrong: is the password the same on both sides?")]
    Digest,
    #[error("it is outside the time window: sent again, or the sender's clock is wrong")]
    Window,
    #[error("it cannot be decrypted: is the password the same on both sides?")]
    Decryption,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What a datagram is.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A trap or inform, and what is sent back for an inform.
    Notice(Box<Notice>, Vec<u8>),
    /// Nothing that tells something; these bytes are to be sent back.
    Report(Vec<u8>),
    /// Nothing that tells something.
    Other,
}

/// Refused; these bytes are to be sent back, if there are any.
pub(super) type Refused = (Refusal, Option<Vec<u8>>);

/// Decides whose messages are taken.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    communities: Vec<String>,
    users: Vec<User>,
    engine: Engine,
    /// The latest boots and time of other engines, and when that was.
    heard: HashMap<Vec<u8>, (u32, u32, Instant)>,
    salt: u64,
    refused: u32,
}

/// What the header of a version 3 message says.
struct Header<'a> {
    id: i64,
    flags: u8,
    engine: &'a [u8],
    boots: u32,
    time: u32,
    user: &'a [u8],
    mac: &'a [u8],
    salt: &'a [u8],
}

impl Guard {
    pub(super) fn new(communities: Vec<String>, users: Vec<User>, engine: Engine) -> Self {
        Self {
            communities,
            users,
            engine,
            heard: HashMap::new(),
            salt: getrandom::u64().unwrap_or(1),
            refused: 0,
        }
    }

    /// For tests: version 3 alone.
    #[cfg(test)]
    pub(super) fn forget_communities(&mut self) {
        self.communities.clear();
    }

    /// What a datagram says, if its sender may say anything.
    pub(super) fn open(&mut self, datagram: &[u8], now: Instant) -> Result<Incoming, Refused> {
        let plain = |malformed: Malformed| (Refusal::from(malformed), None);
        let mut message = Reader::new(datagram)
            .sequence(ber::SEQUENCE)
            .map_err(plain)?;
        match message.integer().map_err(plain)? {
            version @ (0 | 1) => self.community(version, message),
            3 => self.version3(datagram, message, now),
            _ => Err(plain(Malformed("a version that is none of 1, 2c and 3"))),
        }
    }

    fn community(&self, version: i64, mut message: Reader<'_>) -> Result<Incoming, Refused> {
        let plain = |malformed: Malformed| (Refusal::from(malformed), None);
        let community = message.octets().map_err(plain)?;
        if !self
            .communities
            .iter()
            .any(|known| known.as_bytes() == community)
        {
            return Err((Refusal::User, None));
        }
        let Some(notice) = pdu::notice(&mut message).map_err(plain)? else {
            return Ok(Incoming::Other);
        };
        let reply = ber::write_all(
            ber::SEQUENCE,
            &[
                ber::write_integer(version),
                ber::write(ber::OCTETS, community),
                pdu::response(&notice),
            ],
        );
        Ok(Incoming::Notice(Box::new(notice), reply))
    }

    fn version3(
        &mut self,
        datagram: &[u8],
        mut message: Reader<'_>,
        now: Instant,
    ) -> Result<Incoming, Refused> {
        let plain = |malformed: Malformed| (Refusal::from(malformed), None);
        let header = header(&mut message).map_err(plain)?;
        let ours = header.engine == self.engine.id();
        let reportable = header.flags & FLAG_REPORTABLE != 0;
        // Of an inform we are the engine whose time and keys count; of a trap the sender is.
        if reportable && !ours {
            return Ok(Incoming::Report(self.report(&header, 4, None, now)));
        }
        let refuse = |guard: &mut Self, refusal, number, signed: Option<&User>| {
            let report = reportable.then(|| guard.report(&header, number, signed, now));
            Err((refusal, report))
        };
        let user = self
            .users
            .iter()
            .find(|user| user.name.as_bytes() == header.user);
        let Some(user) = user.cloned() else {
            return refuse(self, Refusal::User, 3, None);
        };
        let is = |flag| header.flags & flag != 0;
        if user.auth.is_some() != is(FLAG_AUTH) || user.privacy.is_some() != is(FLAG_PRIV) {
            return refuse(self, Refusal::Level, 1, None);
        }
        if let Some((auth, key)) = &user.auth {
            let key = auth.localise(key, header.engine);
            if !auth.is_mac(&key, &without(datagram, header.mac), header.mac) {
                return refuse(self, Refusal::Digest, 5, None);
            }
            if !self.is_timely(&header, ours, now) {
                return refuse(self, Refusal::Window, 2, Some(&user));
            }
        }
        let mut scoped = message.rest().to_vec();
        if let (Some((privacy, key)), Some((auth, _))) = (&user.privacy, &user.auth) {
            let key = auth.localise(key, header.engine);
            let encrypted = Reader::new(&scoped).octets().map_err(plain)?;
            let mut decrypted = encrypted.to_vec();
            let when = (header.boots, header.time);
            if !privacy.decrypt(&key, when, header.salt, &mut decrypted)
                || decrypted.first() != Some(&ber::SEQUENCE)
            {
                return refuse(self, Refusal::Decryption, 6, Some(&user));
            }
            scoped = decrypted;
        }
        let mut scoped = Reader::new(&scoped)
            .sequence(ber::SEQUENCE)
            .map_err(plain)?;
        let (context_engine, context) = (scoped.octets(), scoped.octets());
        let (context_engine, context) = (context_engine.map_err(plain)?, context.map_err(plain)?);
        let Some(notice) = pdu::notice(&mut scoped).map_err(plain)? else {
            return Ok(Incoming::Other);
        };
        let answer = ber::write_all(
            ber::SEQUENCE,
            &[
                ber::write(ber::OCTETS, context_engine),
                ber::write(ber::OCTETS, context),
                pdu::response(&notice),
            ],
        );
        let reply = self.seal(header.id, Some(&user), header.user, answer, now);
        Ok(Incoming::Notice(Box::new(notice), reply))
    }

    /// A notification of ours that we would take: with a community, else as the first user, in
    /// whose messages we are the engine that counts.
    pub(super) fn notification(&mut self, pdu: &[u8], now: Instant) -> Vec<u8> {
        if let Some(community) = self.communities.first() {
            let community = ber::write(ber::OCTETS, community.as_bytes());
            let parts = [ber::write_integer(1), community, pdu.to_vec()];
            return ber::write_all(ber::SEQUENCE, &parts);
        }
        let Some(user) = self.users.first().cloned() else {
            return Vec::new();
        };
        let scoped = ber::write_all(
            ber::SEQUENCE,
            &[
                ber::write(ber::OCTETS, self.engine.id()),
                ber::write(ber::OCTETS, b""),
                pdu.to_vec(),
            ],
        );
        // A copy of what receives: its salts must not come twice.
        self.salt = getrandom::u64().unwrap_or(1);
        self.seal(1, Some(&user), user.name.as_bytes(), scoped, now)
    }

    fn is_timely(&mut self, header: &Header<'_>, ours: bool, now: Instant) -> bool {
        if header.boots >= BOOTS_MAX {
            return false;
        }
        if ours {
            let (boots, time) = self.engine.clock(now);
            let away = Duration::from_secs(u64::from(time.abs_diff(header.time)));
            return header.boots == boots && away <= WINDOW;
        }
        let latest = self.heard.get(header.engine).copied();
        if let Some((boots, time, at)) = latest {
            let passed = now.saturating_duration_since(at).as_secs();
            let expected = u64::from(time).saturating_add(passed);
            let old = u64::from(header.time) + WINDOW.as_secs() < expected;
            if header.boots < boots || (header.boots == boots && old) {
                return false;
            }
            if header.boots == boots && header.time <= time {
                return true;
            }
        } else if self.heard.len() >= ENGINES_MAX {
            // Only who is authenticated gets here: the least recently heard goes.
            let oldest = self.heard.iter().min_by_key(|(_, (_, _, at))| *at);
            if let Some(oldest) = oldest.map(|(engine, _)| engine.clone()) {
                self.heard.remove(&oldest);
            }
        }
        let heard = (header.boots, header.time, now);
        self.heard.insert(header.engine.to_vec(), heard);
        true
    }

    /// The report that tells a sender what is wrong: `usmStats.NUMBER`.
    fn report(
        &mut self,
        header: &Header<'_>,
        number: u32,
        signed: Option<&User>,
        now: Instant,
    ) -> Vec<u8> {
        self.refused = self.refused.wrapping_add(1);
        let variable = ber::write_all(
            ber::SEQUENCE,
            &[
                ber::write_oid(&Oid::new(&USM_STATS).join(&[number, 0])),
                ber::write(ber::COUNTER32, &u64::from(self.refused).to_be_bytes()[3..]),
            ],
        );
        let pdu = ber::write_all(
            pdu::REPORT,
            &[
                ber::write_integer(0),
                ber::write_integer(0),
                ber::write_integer(0),
                ber::write(ber::SEQUENCE, &variable),
            ],
        );
        let scoped = ber::write_all(
            ber::SEQUENCE,
            &[
                ber::write(ber::OCTETS, self.engine.id()),
                ber::write(ber::OCTETS, b""),
                pdu,
            ],
        );
        // A report about time is authenticated, never encrypted.
        let signed = signed.map(|user| User {
            privacy: None,
            ..user.clone()
        });
        self.seal(header.id, signed.as_ref(), header.user, scoped, now)
    }

    /// A message of ours, encrypted and authenticated as `user` is.
    fn seal(
        &mut self,
        id: i64,
        user: Option<&User>,
        name: &[u8],
        mut scoped: Vec<u8>,
        now: Instant,
    ) -> Vec<u8> {
        let (boots, time) = self.engine.clock(now);
        let auth = user.and_then(|user| user.auth.as_ref());
        let privacy = user.and_then(|user| user.privacy.as_ref());
        let mut salt = Vec::new();
        if let (Some((privacy, key)), Some((auth, _))) = (privacy, auth) {
            self.salt = self.salt.wrapping_add(1);
            let mut block = self.salt.to_be_bytes();
            if *privacy == Priv::Des {
                let boots = boots.to_be_bytes();
                block
                    .iter_mut()
                    .zip(boots)
                    .for_each(|(byte, boots)| *byte = boots);
            }
            let key = auth.localise(key, self.engine.id());
            privacy.encrypt(&key, (boots, time), block, &mut scoped);
            salt = block.to_vec();
            scoped = ber::write(ber::OCTETS, &scoped);
        }
        let flags = u8::from(auth.is_some()) * FLAG_AUTH + u8::from(privacy.is_some()) * FLAG_PRIV;
        let message = |mac: &[u8]| {
            let parameters = ber::write_all(
                ber::SEQUENCE,
                &[
                    ber::write(ber::OCTETS, self.engine.id()),
                    ber::write_integer(i64::from(boots)),
                    ber::write_integer(i64::from(time)),
                    ber::write(ber::OCTETS, name),
                    ber::write(ber::OCTETS, mac),
                    ber::write(ber::OCTETS, &salt),
                ],
            );
            let header = ber::write_all(
                ber::SEQUENCE,
                &[
                    ber::write_integer(id),
                    ber::write_integer(MESSAGE_BYTES_MAX),
                    ber::write(ber::OCTETS, &[flags]),
                    ber::write_integer(USM),
                ],
            );
            let version = ber::write_integer(3);
            let parameters = ber::write(ber::OCTETS, &parameters);
            ber::write_all(
                ber::SEQUENCE,
                &[version, header, parameters, scoped.clone()],
            )
        };
        match auth {
            None => message(b""),
            Some((auth, key)) => {
                let key = auth.localise(key, self.engine.id());
                let blank = message(&vec![0; auth.mac_bytes()]);
                message(&auth.mac(&key, &blank))
            }
        }
    }
}

fn header<'a>(message: &mut Reader<'a>) -> Result<Header<'a>, Malformed> {
    let mut global = message.sequence(ber::SEQUENCE)?;
    let id = global.integer()?;
    let _largest = global.integer()?;
    let flags = global.octets()?;
    if global.integer()? != USM {
        return Err(Malformed("a security model that is not the user-based one"));
    }
    let parameters = message.octets()?;
    let mut usm = Reader::new(parameters).sequence(ber::SEQUENCE)?;
    let engine = usm.octets()?;
    let number = |value: i64| u32::try_from(value).map_err(|_| Malformed("a negative time"));
    Ok(Header {
        id,
        flags: flags.first().copied().unwrap_or(0),
        engine,
        boots: number(usm.integer()?)?,
        time: number(usm.integer()?)?,
        user: usm.octets()?,
        mac: usm.octets()?,
        salt: usm.octets()?,
    })
}

/// The datagram with zeros in place of the digest, which is a part of it.
fn without(datagram: &[u8], mac: &[u8]) -> Vec<u8> {
    let at = mac.as_ptr().addr().saturating_sub(datagram.as_ptr().addr());
    let mut blank = datagram.to_vec();
    if let Some(place) = blank.get_mut(at..at.saturating_add(mac.len())) {
        place.fill(0);
    }
    blank
}
