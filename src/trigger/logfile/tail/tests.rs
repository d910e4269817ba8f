//! Rotation with real files, one step at a time.

use std::fs::OpenOptions;
use std::io::Write;

use tempfile::TempDir;

use super::*;

/// What a path is, and how to make one.
type Case = (&'static str, fn(&Path));

struct Log {
    dir: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("app.log");
        Self { dir, path }
    }

    fn other(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, text: &str) {
        append(&self.path, text);
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Steps until there is no more; the lines and the last complaint.
fn read(tail: &mut Tail) -> (Vec<String>, Option<String>) {
    let mut lines = Vec::new();
    loop {
        let step = tail.step();
        let text = |line: &Line| String::from_utf8_lossy(&line.bytes).into_owned();
        lines.extend(step.lines.iter().map(text));
        if !step.more {
            return (lines, step.failing);
        }
    }
}

fn lines(tail: &mut Tail) -> Vec<String> {
    let (lines, failing) = read(tail);
    assert_eq!(failing, None);
    lines
}

#[test]
fn a_file_that_exists_is_read_from_its_end_a_later_one_from_its_beginning() {
    let log = Log::new();
    log.append("old\n");
    let mut tail = Tail::new(&log.path, None);
    assert!(lines(&mut tail).is_empty());
    log.append("new\n");
    assert_eq!(lines(&mut tail), ["new"]);

    let log = Log::new();
    let mut tail = Tail::new(&log.path, None);
    let (none, failing) = read(&mut tail);
    assert!(none.is_empty() && failing.unwrap().contains("not there; waiting"));
    log.append("first\nsecond\nthi");
    assert_eq!(lines(&mut tail), ["first", "second"]);
    log.append("rd\n");
    assert_eq!(lines(&mut tail), ["third"]);
}

#[test]
fn renamed_the_old_file_is_read_before_the_new_one() {
    let log = Log::new();
    log.append("");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    log.append("1\n");
    fs::rename(&log.path, log.other("app.log.1")).unwrap();
    let (got, failing) = read(&mut tail);
    assert_eq!(got, ["1"]);
    assert!(failing.is_some(), "nothing under the name");
    // logrotate's create; the program still writes to the old file.
    log.append("");
    append(&log.other("app.log.1"), "2\n3");
    assert_eq!(lines(&mut tail), ["2"]);
    append(&log.other("app.log.1"), " and no line feed");
    // The program reopens.
    log.append("4\n");
    assert_eq!(lines(&mut tail), ["3 and no line feed", "4"]);
    log.append("5\n");
    assert_eq!(lines(&mut tail), ["5"]);
}

#[test]
fn emptied_in_place_it_is_read_again_from_the_beginning() {
    let log = Log::new();
    log.append("");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    log.append("a long line before the truncation\n");
    assert_eq!(lines(&mut tail).len(), 1);
    fs::copy(&log.path, log.other("app.log.1")).unwrap();
    File::options()
        .write(true)
        .open(&log.path)
        .unwrap()
        .set_len(0)
        .unwrap();
    log.append("short\n");
    assert_eq!(lines(&mut tail), ["short"]);
    // Emptied and grown past what was read between two looks: the beginning tells.
    File::options()
        .write(true)
        .open(&log.path)
        .unwrap()
        .set_len(0)
        .unwrap();
    log.append("other and much longer than before\n");
    assert_eq!(lines(&mut tail), ["other and much longer than before"]);
}

#[test]
fn a_restart_goes_on_where_it_stood_and_replays_nothing() {
    let log = Log::new();
    log.append("old\n");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    log.append("1\n2\nhal");
    assert_eq!(lines(&mut tail), ["1", "2"]);
    let checkpoint = tail.checkpoint();
    log.append("f\n3\n");
    let mut again = Tail::new(&log.path, checkpoint.clone());
    assert_eq!(lines(&mut again), ["half", "3"]);

    // Rotated while nobody looked: the rest of the old file first.
    fs::rename(&log.path, log.other("app.log.1")).unwrap();
    log.append("4\n");
    let mut again = Tail::new(&log.path, checkpoint.clone());
    assert_eq!(lines(&mut again), ["half", "3", "4"]);
    let after = again.checkpoint();
    assert!(lines(&mut Tail::new(&log.path, after)).is_empty());

    // Rotated and deleted: what is there is new.
    fs::remove_file(log.other("app.log.1")).unwrap();
    let mut again = Tail::new(&log.path, checkpoint);
    assert_eq!(lines(&mut again), ["4"]);
}

#[test]
fn a_file_that_came_while_nobody_looked_is_new() {
    let log = Log::new();
    let mut tail = Tail::new(&log.path, None);
    assert!(read(&mut tail).1.is_some());
    let checkpoint = tail.checkpoint();
    log.append("first\n");
    let mut again = Tail::new(&log.path, checkpoint);
    assert_eq!(lines(&mut again), ["first"]);
    assert_eq!(again.step().rotated, 0);
}

#[test]
fn what_could_not_be_read_at_first_is_still_old() {
    let log = Log::new();
    std::os::unix::fs::symlink("/dev/null", &log.path).unwrap();
    let mut tail = Tail::new(&log.path, None);
    assert!(read(&mut tail).1.is_some());
    assert_eq!(tail.checkpoint(), None);
    fs::remove_file(&log.path).unwrap();
    log.append("old\n");
    assert!(lines(&mut tail).is_empty());
    log.append("new\n");
    assert_eq!(lines(&mut tail), ["new"]);
}

#[test]
fn a_restart_after_truncation_reads_from_the_beginning() {
    let log = Log::new();
    log.append("");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    log.append("one\ntwo\n");
    lines(&mut tail);
    let checkpoint = tail.checkpoint();
    fs::write(&log.path, "three, four, five and more\n").unwrap();
    let mut again = Tail::new(&log.path, checkpoint);
    assert_eq!(lines(&mut again), ["three, four, five and more"]);
}

#[test]
fn deleted_it_is_let_go_and_found_again() {
    let log = Log::new();
    log.append("");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    log.append("last");
    fs::remove_file(&log.path).unwrap();
    let (got, failing) = read(&mut tail);
    assert_eq!(got, ["last"]);
    assert!(failing.unwrap().contains("not there"));
    assert!(
        tail.file.is_none(),
        "a deleted file's disk space is not held"
    );
    log.append("back\n");
    assert_eq!(lines(&mut tail), ["back"]);
}

#[test]
fn only_regular_files_are_followed() {
    let log = Log::new();
    let cases: [Case; 3] = [
        ("symbolic link", |path| {
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("FIFO", |path| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                Mode::RUSR,
                0,
            )
            .unwrap();
        }),
    ];
    for (what, make) in cases {
        let path = log.other(what);
        make(&path);
        let (none, failing) = read(&mut Tail::new(&path, None));
        assert!(none.is_empty());
        let failing = failing.unwrap();
        assert!(failing.contains(&format!("it is a {what}")), "{failing}");
    }
    let (_, failing) = read(&mut Tail::new(Path::new("/dev/null"), None));
    assert!(failing.unwrap().contains("device"));
}

#[test]
fn a_large_file_comes_in_pieces() {
    let log = Log::new();
    log.append("");
    let mut tail = Tail::new(&log.path, None);
    lines(&mut tail);
    let line = "x".repeat(999);
    log.append(&format!("{line}\n").repeat(1000));
    let first = tail.step();
    assert!(first.more && first.lines.len() < 1000);
    assert_eq!(first.lines.len() + lines(&mut tail).len(), 1000);
}
