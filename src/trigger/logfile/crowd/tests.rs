//! The files of a pattern, one round at a time, on a real folder.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    crowd: Crowd,
    start: Instant,
}

impl Bench {
    fn new(pattern: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let path = dir.path().join(pattern);
        let crowd = Crowd::new(&path, Pattern::new(&path).unwrap(), None, Timestamp::MIN);
        let start = Instant::now();
        Self { dir, crowd, start }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new();
        let file = file.create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// What is new now, by file.
    fn lines(&mut self) -> Vec<String> {
        self.lines_at(0)
    }

    fn lines_at(&mut self, second: u64) -> Vec<String> {
        let now = self.start + Duration::from_secs(second);
        let mut all = Vec::new();
        for _ in 0..1000 {
            let round = self.crowd.look(&Touched::Folders, now);
            for (path, step) in round.steps {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let lines = step.lines.iter();
                all.extend(lines.map(|line| format!("{name} {}", text(&line.bytes))));
            }
            if !round.more {
                return all;
            }
        }
        panic!("it never ends");
    }

    /// The same folder after a restart.
    fn restart(&mut self) {
        let path = self.crowd.path.clone();
        let saved = self.crowd.checkpoints();
        let pattern = Pattern::new(&path).unwrap();
        self.crowd = Crowd::new(&path, pattern, saved, Timestamp::now());
    }
}

#[test]
fn old_lines_are_not_replayed_and_later_files_begin_at_their_start() {
    let mut bench = Bench::new("*.log", &[("a.log", "old\n")]);
    assert_eq!(bench.lines(), [""; 0]);
    bench.append("a.log", "new\n");
    bench.append("b.log", "first\n");
    assert_eq!(bench.lines(), ["a.log new", "b.log first"]);
    bench.restart();
    assert_eq!(bench.lines(), [""; 0], "each goes on where it was");
    bench.restart();
    bench.append("a.log", "away\n");
    bench.append("c.log", "came while away\n");
    assert_eq!(bench.lines(), ["a.log away", "c.log came while away"]);
}

#[test]
fn a_rotated_file_that_matches_too_is_not_read_again() {
    let mut bench = Bench::new("app*", &[("app.log", "old\n")]);
    assert_eq!(bench.lines(), [""; 0]);
    bench.append("app.log", "one\n");
    assert_eq!(bench.lines(), ["app.log one"]);
    fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
    bench.append("app.log.1", "late\n");
    assert_eq!(bench.lines(), ["app.log late"]);
    bench.append("app.log", "two\n");
    assert_eq!(bench.lines(), ["app.log two"]);
    assert_eq!(bench.lines(), [""; 0], "app.log.1 has been read");
    bench.append("app.log.1", "a latecomer\n");
    assert_eq!(bench.lines(), ["app.log.1 a latecomer"]);
    bench.restart();
    fs::rename(bench.path("app.log.1"), bench.path("app.log.2")).unwrap();
    fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
    bench.append("app.log", "three\n");
    let mut lines = bench.lines();
    lines.extend(bench.lines());
    assert_eq!(lines, ["app.log three"]);
}

#[test]
fn a_file_that_goes_away_is_forgotten_after_its_last_line() {
    let mut bench = Bench::new("*.log", &[("a.log", "")]);
    bench.lines();
    bench.append("a.log", "whole\nlast without an end");
    fs::remove_file(bench.path("a.log")).unwrap();
    assert_eq!(bench.lines(), ["a.log whole", "a.log last without an end"]);
    assert!(bench.crowd.files.is_empty());
    let (state, detail) = bench.crowd.condition();
    assert_eq!(state, SourceState::Failing);
    assert!(detail.contains("no file matches"), "{detail}");
    // Moved out of sight, but somebody may still write to it.
    bench.append("b.log", "one\n");
    bench.lines();
    fs::rename(bench.path("b.log"), bench.path("b.old")).unwrap();
    bench.append("b.old", "two\n");
    assert_eq!(bench.lines_at(1), ["b.log two"]);
    bench.lines_at(2);
    assert_eq!(bench.crowd.files.len(), 1);
    bench.lines_at(62);
    assert!(bench.crowd.files.is_empty());
}

#[test]
fn more_than_the_bound_is_said_and_not_read_up_later() {
    let names: Vec<String> = (0..FILES_MAX + 3).map(|n| format!("{n:04}.log")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "old\n")).collect();
    let mut bench = Bench::new("*.log", &files);
    assert_eq!(bench.lines(), [""; 0]);
    let (state, detail) = bench.crowd.condition();
    assert_eq!(state, SourceState::Failing);
    assert!(detail.contains("3 more match"), "{detail}");
    let gone = bench.crowd.files.keys().next().unwrap().clone();
    let waiting = bench.crowd.overlooked.first().unwrap().clone();
    fs::remove_file(gone).unwrap();
    assert_eq!(bench.lines(), [""; 0]);
    assert_eq!(
        bench.lines(),
        [""; 0],
        "the one that has its room begins at its end"
    );
    let name = waiting.file_name().unwrap().to_str().unwrap();
    assert!(bench.crowd.overlooked.len() == 2);
    let followed = bench.crowd.files.contains_key(&waiting);
    if followed {
        bench.append(name, "new\n");
        assert_eq!(bench.lines(), [format!("{name} new")]);
    }
}

#[test]
fn what_is_no_file_is_named_and_not_opened() {
    let mut bench = Bench::new("*.log", &[("a.log", "")]);
    let link = bench.path("link.log");
    std::os::unix::fs::symlink(bench.path("a.log"), link).unwrap();
    let fifo = bench.path("pipe.log");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    bench.lines();
    let (state, detail) = bench.crowd.condition();
    assert_eq!(state, SourceState::Ok);
    assert!(
        detail.starts_with("following 1 file; not followed: "),
        "{detail}"
    );
    assert!(
        detail.contains("symbolic link") && detail.contains("and 1 more"),
        "{detail}"
    );
}

#[test]
fn one_loud_file_does_not_silence_the_others() {
    let mut bench = Bench::new("*.log", &[("a.log", ""), ("b.log", "")]);
    bench.lines();
    bench.append("a.log", &format!("{}\n", "x".repeat(1000)).repeat(5000));
    bench.append("b.log", "quiet\n");
    let touched = Touched::Anything;
    let round = bench.crowd.look(&touched, bench.start);
    let read: usize = round.steps.iter().map(|(_, step)| step.lines.len()).sum();
    assert!(round.more && read < 5000);
    assert!(round.steps.iter().any(|(path, _)| path.ends_with("b.log")));
}
