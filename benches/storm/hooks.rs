//! Calls of a hook over connections that are kept, several ahead on each; every answer is counted,
//! and its time runs from when the call was due, not from when there was room for it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sha2::Sha256;

use crate::pace::{Pace, own_cpu};
use crate::site::{ADDRESS, SECRET, Site, Told};
use crate::{Fallible, stop};

/// One call in so many has a wrong signature.
const WRONG_EVERY: u64 = 47;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) rate: u64,
    pub(crate) time: Duration,
    pub(crate) subjects: u64,
    pub(crate) connections: usize,
    pub(crate) ahead: usize,
}

struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    waiting: VecDeque<Instant>,
}

/// Answers so far.
#[derive(Default)]
struct Answers {
    by_status: BTreeMap<u16, u64>,
    micros: Vec<u32>,
}

/// Calls, and compares what was answered with what the incidents say.
pub(crate) fn storm(site: &Site, calls: Calls) -> Fallible<Told> {
    let before = own_cpu();
    let requests = requests(calls.subjects);
    let mut connections = (0..calls.connections)
        .map(|_| Connection::open())
        .collect::<Fallible<Vec<_>>>()?;
    let mut answers = Answers::default();
    let pace = Pace::new(calls.rate, calls.time);
    let (mut sent, mut turn) = (0, 0);
    let mut rate = 0.0;
    let mut last = Instant::now();
    while sent < pace.total || connections.iter().any(|one| !one.waiting.is_empty()) {
        stop::check()?;
        let due = pace.due();
        let mut full = 0;
        while sent < due && full < connections.len() {
            turn = (turn + 1) % connections.len();
            let connection = connections.get_mut(turn).ok_or("no connection")?;
            if connection.waiting.len() >= calls.ahead {
                full += 1;
                continue;
            }
            full = 0;
            let (right, wrong) = requests
                .get(usize::try_from(sent % calls.subjects)?)
                .ok_or("no request")?;
            let request = if sent % WRONG_EVERY == WRONG_EVERY - 1 {
                wrong
            } else {
                right
            };
            connection.output.extend_from_slice(request);
            connection.waiting.push_back(pace.at(sent));
            sent += 1;
            if sent == pace.total {
                rate = pace.reached();
            }
        }
        if answers.exchange(&mut connections)? {
            last = Instant::now();
        }
        if last.elapsed() > PATIENCE {
            break;
        }
    }
    let cpu = own_cpu() - before;
    let (incidents, triggers) = site.incidents()?;
    let accepted = answers.by_status.get(&202).copied().unwrap_or(0);
    let by_status: Vec<String> = answers
        .by_status
        .iter()
        .map(|(status, count)| format!("{count} x {status}"))
        .collect();
    Ok(Told {
        what: format!("{} hook calls, {} subjects", pace.total, calls.subjects),
        rate,
        answered: by_status.join(", "),
        exact: accepted == triggers && answers.micros.len() as u64 == pace.total,
        incidents,
        triggers,
        latency: answers.quantiles(),
        cpu,
    })
}

/// For each subject a call with a right signature and one with a wrong one.
fn requests(subjects: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let request = |body: &str, signature: &str| {
        format!(
            "POST /hooks/storm HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: application/json\r\n\
             X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let of = |subject| {
        let body = format!(
            "{{\"subject\":\"edge-{subject}\",\"text\":\"link down on Gi0/{subject}\",\
             \"fields\":{{\"site\":\"osaka\",\"severity\":\"critical\"}}}}"
        );
        let signature = signed(body.as_bytes());
        let wrong = signature.replacen(|c: char| c != '0', "0", 1);
        (request(&body, &signature), request(&body, &wrong))
    };
    (0..subjects).map(of).collect()
}

fn signed(body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else {
        return String::new();
    };
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

impl Connection {
    fn open() -> Fallible<Self> {
        let stream = TcpStream::connect(ADDRESS)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            output: Vec::new(),
            input: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    fn write(&mut self) -> Fallible<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(taken) => drop(self.output.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes the answers that are there.
    fn read(&mut self, answers: &mut Answers) -> Fallible<()> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(length) => self
                .input
                .extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        while let Some((length, status)) = answer(&self.input)? {
            self.input.drain(..length);
            let due = self.waiting.pop_front().ok_or("an answer to nothing")?;
            *answers.by_status.entry(status).or_default() += 1;
            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
            answers.micros.push(micros);
        }
        Ok(())
    }
}

/// The length and status of the whole answer in front, if it is all there.
fn answer(input: &[u8]) -> Fallible<Option<(usize, u16)>> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(input.get(..end).unwrap_or_default())?;
    let status = head.get(9..12).ok_or("no status")?.parse()?;
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = lengths.next().ok_or("no length")?.1.parse()?;
    let length = end + 4 + body;
    Ok((input.len() >= length).then_some((length, status)))
}

impl Answers {
    /// Writes what is to be written and reads what has come; whether anything had.
    fn exchange(&mut self, connections: &mut [Connection]) -> Fallible<bool> {
        for connection in connections.iter_mut() {
            connection.write()?;
        }
        let mut ready: Vec<_> = connections
            .iter()
            .map(|one| PollFd::new(&one.stream, PollFlags::IN))
            .collect();
        let nap = Timespec {
            tv_sec: 0,
            tv_nsec: 500_000,
        };
        poll(&mut ready, Some(&nap))?;
        let ready: Vec<bool> = ready.iter().map(|one| !one.revents().is_empty()).collect();
        let mut any = false;
        for (connection, ready) in connections.iter_mut().zip(ready) {
            if ready {
                connection.read(self)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// The median, the 99th percentile and the longest, in milliseconds.
    fn quantiles(&mut self) -> Option<[f64; 3]> {
        self.micros.sort_unstable();
        let last = self.micros.len().checked_sub(1)?;
        let at = |share: usize| self.micros.get(last * share / 1000);
        let quantiles = [at(500)?, at(990)?, at(1000)?];
        Some(quantiles.map(|&micros| f64::from(micros) / 1000.0))
    }
}
