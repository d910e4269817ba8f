//! Plays a savefile through the same path as a live interface.

use std::time::Instant;

use crossbeam_channel::TryRecvError;

use crate::recorder::capture::{BATCH, Capturer, Command, finish, timestamp, wait};
use crate::recorder::open::{Replay, open_savefile, segment_header};
use crate::recorder::protocol::InterfaceState;
use crate::time::Timestamp;

impl Capturer {
    /// Plays the file and then answers commands until stopped.
    pub(super) fn run_replay(&mut self, replay: &Replay) {
        let mut capture = match open_savefile(replay, &self.options.filter) {
            Ok(capture) => capture,
            Err(why) => return self.shared.set_state(InterfaceState::Failed, Some(why)),
        };
        let linktype = capture.get_datalink().0;
        let start = Timestamp::now();
        self.writer.set_header(
            segment_header(&self.shared.name, linktype, &self.options),
            start,
        );
        self.shared.set_state(
            InterfaceState::Running,
            Some(format!("replays {}", replay.file.display())),
        );
        let began = (Instant::now(), None);
        let mut pace = replay.pace.then_some(began);
        loop {
            // One packet a call when paced, so that a command is answered between two packets.
            let batch = if replay.pace { 1 } else { BATCH };
            let writer = &mut self.writer;
            let mut due = None;
            let taken = capture.dispatch(Some(batch), |packet| {
                let at = timestamp(packet.header);
                if let Some((_, first)) = &mut pace {
                    due = Some(at.since(*first.get_or_insert(at)));
                }
                writer.counters().received += 1;
                writer.packet(at, packet.header.len, packet.data);
            });
            self.shared.publish(self.writer.counters());
            if self.answer_replay() {
                return;
            }
            match taken {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let why = format!("{}: {error}", replay.file.display());
                    self.shared.set_state(InterfaceState::Failed, Some(why));
                    break;
                }
            }
            if let (Some((began, _)), Some(due)) = (&pace, due) {
                wait([self.shared.wake_fd()], due.saturating_sub(began.elapsed()));
            }
        }
        self.writer.flush(self.writer.last_packet(), Vec::new());
        if self.shared.state().state == InterfaceState::Running {
            self.shared.set_state(InterfaceState::Finished, None);
        }
        while !self.wait_while_blind() {}
    }

    fn answer_replay(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Flush { seal, done }) => {
                    let at = self.writer.last_packet();
                    finish(&mut self.writer, at, seal, vec![done]);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }
}
