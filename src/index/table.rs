//! Counts flows, in bounded memory.

use std::collections::HashMap;

use crate::packet::flow::{Direction, FlowKey, TcpFlags, TcpSegment, sight};
use crate::time::Timestamp;

/// The most flows that are kept of an incident (about 60 MB); packets of further ones are counted
/// together.
pub(super) const FLOWS_MAX: usize = 250_000;

/// Packets and bytes of the two directions, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct Share {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) packets: [u64; 2],
    /// Bytes on the wire.
    pub(super) bytes: [u64; 2],
}

impl Share {
    pub(super) fn packets(&self) -> u64 {
        self.packets.iter().sum()
    }

    fn add(&mut self, back: bool, at: Timestamp, orig_len: u32) {
        if self.packets() == 0 {
            (self.first, self.last) = (at, at);
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        let [packets_to, packets_back] = &mut self.packets;
        *(if back { packets_back } else { packets_to }) += 1;
        let [bytes_to, bytes_back] = &mut self.bytes;
        *(if back { bytes_back } else { bytes_to }) += u64::from(orig_len);
    }
}

/// One flow.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// The direction of its first packet: "to".
    pub(super) forward: Direction,
    pub(super) share: Share,
    pub(super) tcp: Option<Box<Tcp>>,
}

/// What is followed of a TCP flow.
#[derive(Debug, Clone, Default)]
pub(super) struct Tcp {
    pub(super) flags: TcpFlags,
    pub(super) rst: u32,
    pub(super) retransmissions: u32,
    to: Side,
    back: Side,
}

/// One sender of a TCP flow.
#[derive(Debug, Clone, Default)]
struct Side {
    /// Behind the highest byte sent.
    next: Option<u32>,
    /// Its last SYN.
    syn: Option<u32>,
    /// SYNs (without ACK) since the last answer.
    syns_waiting: u32,
}

impl Side {
    /// Whether a segment repeats what was sent: one with payload, SYN or FIN that ends at or
    /// before the highest byte seen in its direction.
    ///
    /// The limits of that: a segment overtaken by a later one counts as well, and so does every
    /// packet that a mirror port delivers twice; the repeat of one that the mirror missed does
    /// not. One byte (or none) just below the highest is a keep-alive or a window probe and does
    /// not count. A SYN with another number begins a new connection on the same ports.
    fn repeats(&mut self, segment: &TcpSegment) -> bool {
        let end = segment.seq.wrapping_add(segment.span());
        if segment.flags.has(TcpFlags::SYN) {
            let again = self.syn == Some(segment.seq);
            if !again {
                self.syn = Some(segment.seq);
                self.next = Some(end);
            }
            return again;
        }
        if segment.span() == 0 {
            return false;
        }
        let Some(next) = self.next else {
            self.next = Some(end);
            return false;
        };
        if end.wrapping_sub(next).cast_signed() > 0 {
            self.next = Some(end);
            return false;
        }
        let keeps_alive = segment.payload_len == 1
            && !segment.flags.has(TcpFlags::FIN)
            && segment.seq == next.wrapping_sub(1);
        !keeps_alive
    }
}

impl Tcp {
    fn add(&mut self, back: bool, segment: &TcpSegment) {
        let flags = segment.flags;
        self.flags = self.flags.union(flags);
        self.rst += u32::from(flags.has(TcpFlags::RST));
        let (sender, receiver) = if back {
            (&mut self.back, &mut self.to)
        } else {
            (&mut self.to, &mut self.back)
        };
        if sender.repeats(segment) {
            self.retransmissions += 1;
        }
        match (flags.has(TcpFlags::SYN), flags.has(TcpFlags::ACK)) {
            (true, false) => sender.syns_waiting += 1,
            (true, true) => receiver.syns_waiting = 0,
            // A refusal is an answer.
            _ if flags.has(TcpFlags::RST) => receiver.syns_waiting = 0,
            // The handshake went on, although the answer was not seen.
            (false, true) => sender.syns_waiting = 0,
            (false, false) => {}
        }
    }

    /// SYNs that nothing answered until the end of the window.
    pub(super) fn syns_unanswered(&self) -> u32 {
        self.to.syns_waiting + self.back.syns_waiting
    }
}

/// The flows of one interface.
#[derive(Debug)]
pub(super) struct FlowTable {
    flows: HashMap<FlowKey, Flow>,
    room: usize,
    other: Share,
    packets: u64,
}

impl FlowTable {
    /// A table for at most `room` flows.
    pub(super) fn new(room: usize) -> Self {
        Self {
            flows: HashMap::new(),
            room,
            other: Share::default(),
            packets: 0,
        }
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, linktype: i32, at: Timestamp, data: &[u8], orig_len: u32) {
        self.packets += 1;
        let Some(seen) = sight(linktype, data, orig_len) else {
            self.other.add(false, at, orig_len);
            return;
        };
        let (key, direction) = seen.tuple.key();
        let full = self.flows.len() >= self.room;
        if full && !self.flows.contains_key(&key) {
            self.other.add(false, at, orig_len);
            return;
        }
        let flow = self.flows.entry(key).or_insert_with(|| Flow {
            forward: direction,
            share: Share::default(),
            tcp: None,
        });
        let back = direction != flow.forward;
        flow.share.add(back, at, orig_len);
        if let Some(segment) = &seen.tcp {
            flow.tcp.get_or_insert_default().add(back, segment);
        }
    }

    pub(super) fn flows(&self) -> &HashMap<FlowKey, Flow> {
        &self.flows
    }

    /// What belongs to no flow of its own.
    pub(super) fn other(&self) -> &Share {
        &self.other
    }

    pub(super) fn packets(&self) -> u64 {
        self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u8 = 0x02;
    const A: u8 = 0x10;
    const F: u8 = 0x01;
    const R: u8 = 0x04;

    /// Runs segments (back?, flags, seq, payload) through one flow: unanswered SYNs, RSTs,
    /// retransmissions.
    fn follow(segments: &[(bool, u8, u32, u32)]) -> (u32, u32, u32) {
        let mut tcp = Tcp::default();
        for &(back, flags, seq, payload_len) in segments {
            let segment = TcpSegment {
                flags: TcpFlags(flags),
                seq,
                payload_len,
            };
            tcp.add(back, &segment);
        }
        (tcp.syns_unanswered(), tcp.rst, tcp.retransmissions)
    }

    #[test]
    fn a_conversation_without_trouble_shows_none() {
        let segments = [
            (false, S, 100, 0),
            (true, S | A, 500, 0),
            (false, A, 101, 0),
            (false, A, 101, 1000),
            (true, A, 501, 0),
            (true, A, 501, 0),
            (false, A, 1101, 1000),
            (false, F | A, 2101, 0),
            (true, F | A, 501, 0),
        ];
        assert_eq!(follow(&segments), (0, 0, 0));
    }

    #[test]
    fn what_is_sent_again_is_a_retransmission() {
        let again = [
            (false, A, 100, 10),
            (false, A, 110, 10),
            (false, A, 100, 10),
            (false, A, 105, 15),
        ];
        assert_eq!(follow(&again), (0, 0, 2));
        // Across the wrap of the sequence number, and none when it moves on.
        let on = u32::MAX - 20;
        let wrap = [
            (false, A, on, 10),
            (false, A, on + 10, 20),
            (false, A, on + 10, 20),
        ];
        assert_eq!(follow(&wrap[..2]), (0, 0, 0));
        assert_eq!(follow(&wrap), (0, 0, 1));
        assert_eq!(
            follow(&[(false, F | A, 9, 0), (false, F | A, 9, 0)]),
            (0, 0, 1)
        );
        // The other direction has its own numbers.
        assert_eq!(follow(&[(false, A, 9, 5), (true, A, 9, 5)]), (0, 0, 0));
    }

    #[test]
    fn a_keep_alive_is_no_retransmission() {
        assert_eq!(
            follow(&[(false, A, 100, 10), (false, A, 109, 1), (false, A, 109, 0)]),
            (0, 0, 0)
        );
    }

    #[test]
    fn syns_wait_for_an_answer() {
        assert_eq!(
            follow(&[(false, S, 1, 0), (false, S, 1, 0), (false, S, 1, 0)]),
            (3, 0, 2)
        );
        assert_eq!(follow(&[(false, S, 1, 0), (true, R | A, 0, 0)]), (0, 1, 0));
        assert_eq!(follow(&[(false, S, 1, 0), (true, S | A, 7, 0)]), (0, 0, 0));
        assert_eq!(follow(&[(false, S, 1, 0), (false, A, 2, 0)]), (0, 0, 0));
        // The same ports again: a new connection, not a repeat.
        assert_eq!(
            follow(&[(false, S, 900, 0), (true, S | A, 7, 0), (false, S, 50, 0)]),
            (1, 0, 0)
        );
    }

    #[test]
    fn the_table_does_not_grow_beyond_its_room() {
        let mut table = FlowTable::new(2);
        for last in [1, 2, 3, 1, 2] {
            let mut data = Vec::new();
            etherparse::PacketBuilder::ipv4([10, 0, 0, last], [10, 0, 0, 9], 64)
                .udp(1, 2)
                .write(&mut data, &[])
                .unwrap();
            table.add(101, Timestamp::from_ns(u64::from(last)), &data, 28);
        }
        table.add(101, Timestamp::from_ns(9), &[0xFF; 8], 8);
        assert_eq!(table.flows().len(), 2);
        assert_eq!(table.other().packets(), 2);
        assert_eq!(table.packets(), 6);
    }
}
