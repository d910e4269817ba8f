//! Early signs of one probe: its samples go to the detector, signs come back as triggers, and what
//! the detector knows is kept in a file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::config::ProbeConfig;
use super::icmp_error::IcmpErrorKind;
use super::track::Sample;
use crate::error::{IoContext, IoError};
use crate::time::Timestamp;
use crate::trigger::precursor::{
    Detector, Edge, Fate, IcmpError, Memory, Observation, PrecursorConfig, Sign,
};

/// The folder of what is usual, within the server's own directory.
pub const BASELINES: &str = "baselines";
/// It is saved this often, and at the end.
const SAVE_EVERY: Duration = Duration::from_mins(15);

/// Watches the samples of one probe.
#[derive(Debug)]
pub(super) struct Early {
    detector: Detector,
    signs: Vec<Sign>,
    file: PathBuf,
    saved: Option<Timestamp>,
    due: bool,
}

/// What is to be written, to be done by who may wait for the disk.
#[derive(Debug)]
pub(super) struct Saving {
    file: PathBuf,
    text: String,
}

impl Early {
    /// With what is known of the target; nothing if that cannot be read.
    pub(super) fn load(precursor: &PrecursorConfig, probe: &ProbeConfig, folder: &Path) -> Self {
        let file = folder.join(file_name(probe));
        let memory = match read(&file) {
            Ok(memory) => memory.unwrap_or_default(),
            Err(why) => {
                tracing::warn!(
                    probe = probe.name,
                    file = %file.display(),
                    "what is usual is learned anew: {why}"
                );
                Memory::new()
            }
        };
        Self {
            detector: Detector::new(precursor, probe.interval, memory),
            signs: Vec::new(),
            file,
            saved: None,
            due: false,
        }
    }

    /// Takes in a sample. Within a fault nothing is an early sign any more.
    pub(super) fn observe(&mut self, sample: &Sample, in_fault: bool) {
        if sample.duplicate {
            return;
        }
        let fate = match sample.rtt {
            Some(rtt) => Fate::Replied {
                rtt,
                ttl: sample.ttl,
            },
            None if sample.lost => Fate::Lost,
            None => Fate::Unknown,
        };
        let signs = self.detector.observe(&Observation {
            sent: sample.sent,
            fate,
            icmp_error: sample.icmp_error.and_then(icmp_error),
        });
        let news = |sign: &Sign| !(in_fault && sign.edge == Edge::Raised);
        self.signs.extend(signs.into_iter().filter(news));
        let saved = *self.saved.get_or_insert(sample.sent);
        self.due |= sample.sent.since(saved) >= SAVE_EVERY;
        if self.due {
            self.saved = Some(sample.sent);
        }
    }

    /// The signs since the last call.
    pub(super) fn take(&mut self) -> Vec<Sign> {
        std::mem::take(&mut self.signs)
    }

    /// What is to be saved, if it is time.
    pub(super) fn save_if_due(&mut self) -> Option<Saving> {
        std::mem::take(&mut self.due).then(|| self.save())?
    }

    /// What is to be saved now.
    pub(super) fn save(&self) -> Option<Saving> {
        let text = self.detector.memory().save().ok()?;
        Some(Saving {
            file: self.file.clone(),
            text,
        })
    }
}

impl Saving {
    /// Writes it, so that after a crash there is the old one or the new one.
    pub(super) fn write(&self) {
        if let Err(error) = self.try_write() {
            tracing::warn!("what is usual of a probe is not saved: {error}");
        }
    }

    fn try_write(&self) -> Result<(), IoError> {
        let temporary = self.file.with_extension("new");
        let mut file = File::create(&temporary).at("create", &temporary)?;
        file.write_all(self.text.as_bytes())
            .at("write", &temporary)?;
        file.sync_data().at("fsync", &temporary)?;
        fs::rename(&temporary, &self.file).at("rename", &self.file)
    }
}

/// The file of a probe: another target or kind is another story.
fn file_name(probe: &ProbeConfig) -> String {
    let told = format!("{}\0{:?}\0{}", probe.name, probe.kind, probe.target);
    let key = hex::encode(Sha256::digest(told.as_bytes()));
    format!("{}.json", key.get(..32).unwrap_or(&key))
}

fn read(file: &Path) -> Result<Option<Memory>, String> {
    match fs::read_to_string(file) {
        Ok(text) => Memory::load(&text)
            .map(Some)
            .map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What an error means for the path; `None` when it speaks of our packet alone.
const fn icmp_error(kind: IcmpErrorKind) -> Option<IcmpError> {
    match kind {
        IcmpErrorKind::NetworkUnreachable
        | IcmpErrorKind::HostUnreachable
        | IcmpErrorKind::PortUnreachable
        | IcmpErrorKind::Prohibited
        | IcmpErrorKind::Unreachable => Some(IcmpError::Unreachable),
        IcmpErrorKind::FragmentationNeeded => Some(IcmpError::FragmentationNeeded),
        IcmpErrorKind::TimeExceeded => Some(IcmpError::TtlExceeded),
        IcmpErrorKind::Redirect => Some(IcmpError::Redirect),
        IcmpErrorKind::ParameterProblem => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, rtt_ms: Option<u64>) -> Sample {
        Sample {
            sent: Timestamp::from_ns(1_795_305_600_000_000_000 + second * 1_000_000_000),
            rtt: rtt_ms.map(Duration::from_millis),
            lost: rtt_ms.is_none(),
            ttl: Some(60),
            icmp_error: None,
            duplicate: false,
            reordered: false,
        }
    }

    fn early(folder: &Path) -> Early {
        let precursor = PrecursorConfig {
            warm_up: Duration::from_mins(10),
            ..PrecursorConfig::default()
        };
        let probe = toml::from_str("name = \"../p\"\ntarget = \"192.0.2.1\"").unwrap();
        Early::load(&precursor, &probe, folder)
    }

    #[test]
    fn what_is_usual_survives_a_restart_and_damage_only_costs_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = early(folder.path());
        let mut due = 0;
        for second in 0..1800 {
            first.observe(&sample(second, Some(10)), false);
            if let Some(saving) = first.save_if_due() {
                saving.write();
                due += 1;
            }
        }
        assert_eq!(due, 1);
        assert_eq!(first.take(), []);
        let burst = |early: &mut Early| {
            for second in 1800..1830 {
                early.observe(&sample(second, (second % 2 == 0).then_some(10)), false);
            }
            early.take().len()
        };
        assert!(burst(&mut early(folder.path())) > 0);
        let file = fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        fs::write(file.path(), "{").unwrap();
        assert_eq!(burst(&mut early(folder.path())), 0, "it must warm up anew");
    }

    #[test]
    fn within_a_fault_nothing_is_early() {
        let folder = tempfile::tempdir().unwrap();
        let mut early = early(folder.path());
        for second in 0..1800 {
            early.observe(&sample(second, Some(10)), false);
        }
        for second in 1800..1830 {
            early.observe(&sample(second, None), true);
        }
        assert_eq!(early.take(), []);
    }
}
