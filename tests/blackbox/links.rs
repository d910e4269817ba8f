//! Links that go down, go away, come back and change, over and over: recording resumes by itself,
//! what was not recorded is on record, and nothing leaks.

use std::collections::BTreeSet;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use wirewitness::recorder::link_events::LinkEvents;

use crate::support::{
    Lab, Mirror, Recorder, Sender, Setup, Site, Tally, median_and_p99, record, rounds, wait_for,
};

/// A recorder on a mirror port that is going to suffer.
struct Victim {
    mirror: Mirror,
    site: Site,
    recorder: Recorder,
    sender: Sender,
    /// Numbers of packets that must be in the ring.
    due: BTreeSet<u64>,
    resumed: Vec<f64>,
    descriptors: Option<usize>,
}

impl Victim {
    fn new(test: &str) -> Option<Self> {
        let mirror = Mirror::new(test)?;
        let site = Site::new(&Setup::default());
        let recorder = Recorder::start(&site, &mirror.monitor);
        let sender = Sender::new(&mirror.sender, 0, 100);
        Some(Self {
            mirror,
            site,
            recorder,
            sender,
            due: BTreeSet::new(),
            resumed: Vec::new(),
            descriptors: None,
        })
    }

    fn ip(&self, arguments: &[&str]) {
        self.mirror.monitor.ip(arguments);
    }

    /// Sends until a packet is recorded again, then some more, all of which must be.
    fn resumes(&mut self) {
        let since = Instant::now();
        let before = self.written();
        wait_for("a packet to be recorded again", || {
            self.sender.send_one();
            match self.recorder.interface("mon0") {
                status if status["written"].as_u64().unwrap() > before => Ok(()),
                status => Err(status.to_string()),
            }
        });
        self.resumed.push(since.elapsed().as_secs_f64());
        self.recorder.wait_state(Some("mon0"), "running");
        let first = self.sender.next();
        self.sender.send(50, 50_000);
        self.due.extend(first..self.sender.next());
        if self.descriptors.is_none() {
            // With a segment in the making, as it is at the end.
            self.recorder.flush();
            self.descriptors = Some(self.descriptors());
        }
    }

    fn written(&self) -> u64 {
        self.recorder.interface("mon0")["written"].as_u64().unwrap()
    }

    /// Descriptors the recorder has open. A client's may still be on their way out.
    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.recorder.process.id());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// Everything due is found once, each interruption is on record, no descriptor was leaked.
    fn holds(mut self, fault: &str, injected: &str, gaps: u64) {
        let count = u64::try_from(self.resumed.len()).unwrap();
        let newest = *self.due.last().unwrap();
        wait_for("the last packet to be in the ring", || {
            self.recorder.flush();
            if Tally::of_folder(&self.site.ring("mon0")).has(newest) {
                Ok(())
            } else {
                Err(self.recorder.interface("mon0").to_string())
            }
        });
        let tally = Tally::of_folder(&self.site.ring("mon0"));
        let lost: Vec<&u64> = self
            .due
            .iter()
            .filter(|&&number| !tally.has(number))
            .collect();
        assert!(lost.is_empty(), "{lost:?} are missing");
        assert_eq!(tally.doubled(), [0; 0]);
        // An interface that is made anew may be seen before it is up: that is a gap of its own.
        let on_record = gaps_on_record(&self.site);
        let enough = if gaps == 0 {
            on_record == 0
        } else {
            on_record >= gaps
        };
        assert!(enough, "{on_record} gaps are on record, {gaps} were made");
        let at_first = self.descriptors.unwrap();
        wait_for("descriptors to be as many as at first", || {
            match self.descriptors() {
                now if now <= at_first => Ok(()),
                now => Err(format!("{now} are open, {at_first} were")),
            }
        });
        self.recorder.process.alive();
        let longest = self.resumed.iter().copied().fold(0.0, f64::max);
        let (median, p99) = median_and_p99(&mut self.resumed);
        let figure = format!(
            "recorded again after {median:.3} s (p99 {p99:.3} s, longest {longest:.3} s); {on_record} gaps on \
             record; 0 packets lost afterwards, 0 doubled; 0 descriptors leaked"
        );
        record(fault, injected, count, &figure);
    }
}

/// How many gaps of a lost interface are on record, each a span.
fn gaps_on_record(site: &Site) -> u64 {
    let text = std::fs::read_to_string(site.ring("mon0").join("gaps.jsonl")).unwrap_or_default();
    let gaps = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lost = gaps.filter(|gap| gap["cause"] == "interface_down");
    lost.inspect(|gap| assert!(gap["from"].as_str() < gap["to"].as_str(), "{gap}"))
        .map(|_| 1)
        .sum()
}

#[test]
fn an_interface_that_flaps_is_recorded_each_time_it_is_up() {
    let Some(mut victim) = Victim::new("flapping") else {
        return;
    };
    let flaps = rounds(5, 200);
    for _ in 0..flaps {
        victim.ip(&["link", "set", "mon0", "down"]);
        victim.recorder.wait_state(Some("mon0"), "down");
        victim.ip(&["link", "set", "mon0", "up"]);
        victim.resumes();
    }
    victim.holds("interface down and up", "`ip link set down`, `up`", flaps);
}

#[test]
fn an_interface_deleted_over_and_over_is_recorded_each_time_it_is_made() {
    let Some(mut victim) = Victim::new("deleted over and over") else {
        return;
    };
    let deletions = rounds(5, 200);
    for _ in 0..deletions {
        victim.ip(&["link", "del", "mon0"]);
        victim.recorder.wait_state(Some("mon0"), "absent");
        victim.mirror.plug("tx0", "mon0", 0);
        victim.resumes();
    }
    victim.holds(
        "interface deleted and created again",
        "`ip link del`, `add`",
        deletions,
    );
}

/// It goes away under its name and comes back, another interface having had the name meanwhile.
#[test]
fn a_name_that_goes_from_interface_to_interface_is_recorded_each_time() {
    let Some(mut victim) = Victim::new("renamed over and over") else {
        return;
    };
    let renames = rounds(5, 200);
    for _ in 0..renames {
        victim.ip(&["link", "set", "mon0", "down"]);
        victim.ip(&["link", "set", "mon0", "name", "other0"]);
        victim.ip(&["link", "set", "other0", "up"]);
        victim.recorder.wait_state(Some("mon0"), "absent");
        victim.ip(&["link", "set", "other0", "down"]);
        victim.ip(&["link", "set", "other0", "name", "mon0"]);
        victim.ip(&["link", "set", "mon0", "up"]);
        victim.resumes();
    }
    victim.holds(
        "interface renamed away and back",
        "`ip link set name`",
        renames,
    );
}

/// Neither interrupts the recording: not one packet is missing.
#[test]
fn a_changed_mtu_and_promiscuity_taken_away_cost_nothing() {
    let Some(mut victim) = Victim::new("MTU and promiscuity") else {
        return;
    };
    let changes = rounds(5, 200);
    for change in 0..changes {
        let first = victim.sender.next();
        victim.sender.send(25, 50_000);
        let mtu = if change % 2 == 0 { "9000" } else { "1400" };
        victim.ip(&["link", "set", "mon0", "mtu", mtu]);
        victim.ip(&["link", "set", "mon0", "promisc", "on"]);
        victim.sender.send(25, 50_000);
        victim.ip(&["link", "set", "mon0", "promisc", "off"]);
        assert!(
            promiscuity(&victim.mirror) >= 1,
            "the recorder's own claim stays"
        );
        victim.due.extend(first..victim.sender.next());
        victim.resumes();
    }
    let sent = victim.sender.next();
    victim.due.extend(0..sent);
    let injected = "`ip link set mtu`, `promisc on`, `promisc off` by others";
    victim.holds("MTU changed, promiscuity taken away", injected, 0);
}

fn promiscuity(mirror: &Mirror) -> u64 {
    let text = mirror
        .monitor
        .run(&["ip", "-details", "-json", "link", "show", "dev", "mon0"]);
    let links: Value = serde_json::from_str(&text).unwrap();
    links[0]["promiscuity"].as_u64().unwrap()
}

/// Everything else here would pass as well if the recorder looked now and then.
#[test]
fn the_kernel_says_each_change_of_a_link() {
    let Some(mut lab) = Lab::new("link events") else {
        return;
    };
    let space = lab.space("one");
    let events = space.enter(|| LinkEvents::open().unwrap());
    let limit = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    for change in [
        "add dev one type veth peer name two",
        "set dev one up",
        "set dev one mtu 1400",
        "set dev one down",
        "set dev one name three",
        "del dev three",
    ] {
        events.clear();
        let words: Vec<&str> = change.split(' ').collect();
        space.ip(&[&["link"], &words[..]].concat());
        let mut fds = [PollFd::new(&events, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "{change}");
    }
}
