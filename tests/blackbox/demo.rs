//! The tour of the README, step by step.

use std::process::Command;

use crate::support::{Lab, binary, run};

#[test]
fn the_demo_shows_packets_from_before_and_after_the_fault() {
    let Some(lab) = Lab::new("the demo") else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh");
    let said = run(Command::new(script)
        .arg("--check")
        .env("WIREWITNESS_BIN", binary()));
    assert!(said.contains("before the fault"), "{said}");
    assert!(said.contains("after the fault"), "{said}");
    let left = run(Command::new("ip").args(["netns", "list"]));
    assert!(!left.contains("wwdemo"), "it must clean up: {left}");
    drop(lab);
}
