//! The journal, written by a real journald.

use crate::support::{Journald, wait_for};
use crate::triggers::Running;

#[test]
fn entries_of_the_journal_match_rules() {
    if !crate::support::privileged("journal") {
        return;
    }
    let mut journald = Journald::start();
    let config = format!(
        "[[journal]]\nidentifiers = [\"app\"]\ndirectory = {:?}\n\
         [[rule]]\nname = \"app\"\nmatch = 'ERROR peer=(?P<peer>\\S+)'\nsubject = \"{{peer}}\"\nseverity = \"err\"\n",
        journald.journal()
    );
    let Some(running) = Running::new("journal", &config) else {
        return;
    };
    // The reader sees a journal that it found empty once something is in it.
    let mut number = 0;
    wait_for("an entry to be heard", || {
        number += 1;
        journald.write(&format!("ERROR peer=192.0.2.{number}"));
        match running.site.list().len() {
            0 => Err(format!(
                "{} {}",
                journald.said(),
                running.server.process.said()
            )),
            _ => Ok(()),
        }
    });
    let incident = running.expect("journal", "192.0.2.");
    assert!(
        incident["trigger"]["text"]
            .as_str()
            .unwrap()
            .starts_with("app["),
        "{incident}"
    );
}
