//! The recorder's accounting of an incident: its lines around the window, copied into the evidence.
//!
//! The verdict stands on the counters in the segments; the lines tell the same by the second, with
//! the clock and its steps. Each capture thread of an interface has its own.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::durable;
use super::explain::reason;
use super::folder::MODE;
use super::manifest::AccountingEntry;
use super::measure::{holes, join};
use super::model::Reason;
use crate::clock::Step;
use crate::error::{IoContext, IoError};
use crate::recorder::ledger::Second;
use crate::recorder::seconds;
use crate::recorder::sync::{self, Site};
use crate::time::Window;

/// The folder of the lines, a file per capture thread in it.
pub(super) const ACCOUNTING_DIR: &str = "accounting";

/// How much is taken on either side of the window.
const MARGIN: Duration = Duration::from_secs(1);
/// Lines come once a second: a span without any that is shorter says nothing.
const UNTOLD_MIN: Duration = Duration::from_secs(2);

/// What the lines of one capture thread told.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) entry: AccountingEntry,
    /// The spans that have lines, as they were written.
    told: Vec<Window>,
    steps: Vec<Step>,
    unsynchronised: u64,
    /// The parts of the recorded window that no line tells of.
    untold: Vec<Window>,
}

/// Copies the lines of a capture thread from its ring's folder `home` into the incident's `folder`.
/// It did not record during `missing`, of which no line is expected to tell.
/// `None` when the ring has none: another program's, or a savefile's.
pub(super) fn copy(
    folder: &Path,
    home: &Path,
    folder_name: &str,
    interface: &str,
    window: &Window,
    missing: &[Window],
) -> Result<Option<Book>, IoError> {
    if !seconds::files(home).is_ok_and(|files| !files.is_empty()) {
        return Ok(None);
    }
    let below = folder.join(ACCOUNTING_DIR);
    make_folder(&below)?;
    let path = below.join(format!("{folder_name}.jsonl"));
    let tmp = durable::temporary(&path);
    let mut book = Book {
        entry: AccountingEntry {
            path: format!("{ACCOUNTING_DIR}/{folder_name}.jsonl"),
            interface: interface.to_owned(),
            size_bytes: 0,
            sha256: String::new(),
            lines: 0,
        },
        told: Vec::new(),
        steps: Vec::new(),
        unsynchronised: 0,
        untold: Vec::new(),
    };
    let mut copy = Copy::create(&tmp)?;
    let wider = Window::new(window.from.minus(MARGIN), window.to.plus(MARGIN));
    let read = seconds::read(home, &wider, |line, second| {
        copy.line(line).at("write", &tmp).map_err(Failed::Write)?;
        book.take(second, window);
        Ok(())
    });
    match read {
        Ok(()) => {}
        // What cannot be read is missing, and said to be.
        Err(Failed::Read(error)) => {
            tracing::warn!(interface, %error, "part of the accounting cannot be read");
        }
        Err(Failed::Write(error)) => return Err(error),
    }
    book.entry.sha256 = copy.finish(&tmp)?;
    book.entry.size_bytes = fs::metadata(&tmp).at("stat", &tmp)?.len();
    durable::rename(&tmp, &path, Site::AccountingName)?;
    sync::folder(folder, Site::AccountingName)?;
    book.untold = book.untold(missing, window);
    Ok(Some(book))
}

/// Reading may fail, writing must not.
enum Failed {
    Read(IoError),
    Write(IoError),
}

impl From<IoError> for Failed {
    fn from(error: IoError) -> Self {
        Self::Read(error)
    }
}

/// A file that is hashed as it is written.
struct Copy {
    file: BufWriter<File>,
    hasher: Sha256,
}

impl Copy {
    fn create(path: &Path) -> Result<Self, IoError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IoError::new("remove", path, error));
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(MODE);
        Ok(Self {
            file: BufWriter::new(options.open(path).at("create", path)?),
            hasher: Sha256::new(),
        })
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.hasher.update(line);
        self.file.write_all(line)
    }

    fn finish(mut self, path: &Path) -> Result<String, IoError> {
        self.file.flush().at("write", path)?;
        sync::whole(self.file.get_ref(), Site::AccountingData).at("fsync", path)?;
        Ok(hex::encode(self.hasher.finalize()))
    }
}

/// The folder belongs to the server; the recorder, which releases incidents, is of its group.
fn make_folder(path: &Path) -> Result<(), IoError> {
    match fs::DirBuilder::new().mode(0o770).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o770)).at("chmod", path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(path).at("stat", path)?;
            if there.is_dir() {
                return Ok(());
            }
            Err(IoError::new(
                "use",
                path,
                io::Error::other("is not a folder"),
            ))
        }
        Err(error) => Err(IoError::new("create", path, error)),
    }
}

impl Book {
    fn take(&mut self, second: &Second, window: &Window) {
        self.entry.lines += 1;
        let span = second.window();
        match self.told.last_mut() {
            Some(last) if span.from <= last.to && last.from <= span.to => *last = last.union(&span),
            _ => self.told.push(span),
        }
        let inside = Window::new(span.from, span.to.plus(Duration::from_nanos(1))).overlaps(window);
        if !inside {
            return;
        }
        if let Some(step_ns) = second.clock.step_ns {
            self.steps.push(Step {
                from: second.from,
                to: second.to,
                step_ns,
            });
        }
        let kernel = second.clock.kernel;
        self.unsynchronised += u64::from(kernel.is_some_and(|kernel| !kernel.synchronised));
    }

    fn untold(&self, missing: &[Window], window: &Window) -> Vec<Window> {
        let told = self.told.iter().chain(missing).copied().collect();
        let mut untold = holes(&join(told), window);
        untold.retain(|span| span.length() >= UNTOLD_MIN);
        untold
    }
}

/// What an analyst must know of clock and accounting. None of it means that a packet is missing.
pub(super) fn reasons(books: &[Book]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = steps(books).iter().map(step_reason).collect();
    let mut untold: BTreeMap<&str, Vec<Window>> = BTreeMap::new();
    for book in books {
        let of = untold.entry(&book.entry.interface).or_default();
        of.extend(&book.untold);
    }
    for (name, spans) in untold {
        for span in join(spans) {
            let text = format!(
                "{name}: the accounting has no line for {span}; the counters in the segments count"
            );
            reasons.push(reason("accounting", Some(name), &text));
        }
    }
    reasons
}

/// Whether the clock was unsynchronised at any moment of the window.
pub(super) fn unsynchronised(books: &[Book]) -> Option<Reason> {
    let lines = books.iter().map(|book| book.unsynchronised).max()?;
    (lines > 0).then(|| {
        let text = format!(
            "the clock was not synchronised in {lines} lines of the accounting: times are those of \
             this machine alone"
        );
        reason("clock", None, &text)
    })
}

/// The steps of all interfaces, each once: they share the clock.
fn steps(books: &[Book]) -> Vec<Step> {
    /// Two threads read the clock at different moments; slews between them are less than this.
    const SAME_NS: u64 = 1_000_000;
    let mut found: Vec<Step> = Vec::new();
    for step in books.iter().flat_map(|book| &book.steps) {
        let same = |other: &Step| {
            other.step_ns.abs_diff(step.step_ns) < SAME_NS && around(other).overlaps(&around(step))
        };
        if !found.iter().any(same) {
            found.push(*step);
        }
    }
    found.sort_by_key(|step| step.from);
    found
}

fn around(step: &Step) -> Window {
    let end = step.from.max(step.to);
    Window::new(step.from.min(step.to), end.plus(Duration::from_nanos(1)))
}

fn step_reason(step: &Step) -> Reason {
    let size = Duration::from_micros(step.step_ns.unsigned_abs() / 1000);
    let way = if step.step_ns < 0 { "back" } else { "forward" };
    let Step { from, to, .. } = step;
    let text = format!(
        "the clock was set {way} by {} between {from} and {to}: times before and after do not \
         compare",
        humantime::format_duration(size)
    );
    reason("clock", None, &text)
}

/// Whether the path in a manifest is one of ours: it must not leave the folder.
pub(super) fn plain(path: &str) -> bool {
    let name = path
        .strip_prefix(ACCOUNTING_DIR)
        .and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/') && name != "." && name != "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Discipline};
    use crate::counters::Counters;
    use crate::recorder::seconds::SecondsLog;
    use crate::time::Timestamp;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns(second * 1_000_000_000)
    }

    fn line(from: u64, to: u64, step_ns: Option<i64>) -> Second {
        Second {
            from: at(from),
            to: at(to),
            counters: Counters::default(),
            longest_gap_ns: 0,
            clock: Clock {
                kernel: Some(Discipline {
                    synchronised: from != 103,
                    ..Discipline::default()
                }),
                step_ns,
                ..Clock::default()
            },
        }
    }

    fn copied(lines: &[Second], window: &Window) -> (tempfile::TempDir, Book) {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("ring");
        fs::create_dir(&home).unwrap();
        let mut log = SecondsLog::new(&home);
        for line in lines {
            log.append(line, None).unwrap();
        }
        let missing = [Window::new(at(110), at(120))];
        let book = copy(dir.path(), &home, "eth1", "eth1", window, &missing).unwrap();
        (dir, book.unwrap())
    }

    fn texts(books: &[Book]) -> Vec<String> {
        reasons(books).into_iter().map(|r| r.text).collect()
    }

    #[test]
    fn the_window_and_a_second_on_either_side_are_copied() {
        let lines: Vec<Second> = (90..130).map(|n| line(n, n + 1, None)).collect();
        let window = Window::new(at(100), at(109));
        let (dir, book) = copied(&lines, &window);
        assert_eq!((book.entry.lines, book.unsynchronised), (11, 1));
        let text = fs::read_to_string(dir.path().join(&book.entry.path)).unwrap();
        assert_eq!(text.lines().count(), 11);
        assert_eq!(book.entry.size_bytes, text.len() as u64);
        assert_eq!(book.entry.sha256, hex::encode(Sha256::digest(&text)));
        assert!(text.starts_with("{\"from\":\"1970-01-01T00:01:39.000000000Z\""));
        assert_eq!(texts(&[book]), [""; 0]);
    }

    #[test]
    fn spans_without_lines_are_said_but_for_those_nobody_recorded() {
        let window = Window::new(at(100), at(130));
        let mut lines: Vec<Second> = (100..110).map(|n| line(n, n + 1, None)).collect();
        lines.extend((125..131).map(|n| line(n, n + 1, None)));
        // Of two capture threads one says it, or both: the interface says it once.
        let books = [copied(&lines, &window).1, copied(&lines, &window).1];
        let texts = texts(&books);
        assert_eq!(texts.len(), 1, "{texts:?}");
        let span = Window::new(at(120), at(125)).to_string();
        assert!(texts[0].contains(&span), "{texts:?}");
    }

    #[test]
    fn a_step_is_said_once_with_size_and_moment() {
        let window = Window::new(at(100), at(104));
        let lines = [
            line(100, 101, None),
            line(101, 90, Some(-12_000_000_000)),
            line(90, 91, None),
            line(91, 105, Some(13_000_000_000)),
        ];
        let books = [copied(&lines, &window).1, copied(&lines, &window).1];
        let said = reasons(&books);
        assert_eq!(said.len(), 2, "{said:?}");
        let text = &said.iter().find(|r| r.text.contains("back")).unwrap().text;
        assert!(text.contains("set back by 12s between"), "{text}");
        assert!(text.contains(&at(101).to_rfc3339()), "{text}");
    }

    #[test]
    fn a_ring_without_accounting_has_no_book() {
        let dir = tempfile::tempdir().unwrap();
        let window = Window::new(at(0), at(1));
        assert!(
            copy(dir.path(), dir.path(), "e", "e", &window, &[])
                .unwrap()
                .is_none()
        );
        assert!(!dir.path().join(ACCOUNTING_DIR).exists());
    }

    #[test]
    fn a_path_does_not_leave_the_folder() {
        assert!(plain("accounting/eth1.jsonl"));
        for path in [
            "accounting/",
            "accounting/..",
            "accounting/a/b",
            "segments/eth1",
            "/accounting/e",
        ] {
            assert!(!plain(path), "{path}");
        }
    }
}
