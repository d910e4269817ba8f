//! The test rig itself, with dumpcap in the recorder's place: a harness that finds nothing proves
//! nothing until it has found what was planted.

use rustix::process::Signal;

use crate::support::{Mirror, Process, Sender, Tally, wait_for};

#[test]
fn numbered_packets_pass_the_mirror_port_and_a_planted_loss_is_found() {
    let Some(mirror) = Mirror::alone("the rig") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dumpcap.pcapng");
    let mut command = mirror.monitor.command("dumpcap");
    command
        .args(["-q", "-B", "64", "-i", "mon0", "-w"])
        .arg(&file);
    let mut dumpcap = Process::start(&mut command, &folder.path().join("log"));
    wait_for("dumpcap to open its file", || {
        dumpcap.alive();
        if file.exists() {
            Ok(())
        } else {
            Err(dumpcap.said())
        }
    });

    let mut sender = Sender::new(&mirror.sender, 0, 64);
    sender.send(20_000, 100_000);
    sender.skip();
    sender.send(10, 10_000);
    wait_for("the last packet to be written", || {
        let written = std::fs::read(&file).unwrap();
        let last = (sender.next() - 1).to_le_bytes();
        let found = written
            .windows(16)
            .rev()
            .any(|bytes| bytes[..8] == *b"WWNUMBER" && bytes[8..] == last);
        if found {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    dumpcap.stop(Signal::INT);

    let tally = Tally::of_file(&file);
    assert_eq!(tally.missing(sender.next()), [20_000]);
    assert_eq!(tally.doubled(), [0; 0]);
    assert_eq!(tally.others, 0, "the cable must be silent");
}
