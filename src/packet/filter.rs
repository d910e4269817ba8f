//! pcap-filter(7) expressions, compiled and run by libpcap.
//!
//! The `pcap` crate's own way to run a program tells it that a packet is as long as what was
//! captured of it, so that `greater 1000` misses every snapped packet; here the length on the wire
//! is given.
#![expect(
    unsafe_code,
    reason = "libpcap's filter functions, with the true packet length"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_uint, c_void};
use std::fmt;
use std::ptr::{self, NonNull};

/// The longest expression that is compiled, in bytes.
pub const FILTER_BYTES_MAX: usize = 4096;
/// libpcap's word for "netmask unknown".
const NETMASK_UNKNOWN: c_uint = 0xffff_ffff;

/// Why an expression is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// libpcap refused it, in its own words.
    #[error("{0}")]
    Syntax(String),
    /// Longer than [`FILTER_BYTES_MAX`].
    #[error("the filter is {0} bytes long, {FILTER_BYTES_MAX} is the most")]
    TooLong(usize),
    /// A NUL byte in it.
    #[error("the filter contains a NUL byte at position {0}")]
    Nul(usize),
    /// libpcap could not set up a compiler for the link type.
    #[error("libpcap cannot compile filters for link type {0}")]
    Linktype(i32),
}

#[repr(C)]
struct Program {
    length: c_uint,
    instructions: *mut c_void,
}

#[repr(C)]
struct PacketHeader {
    time: libc::timeval,
    captured: u32,
    length: u32,
}

#[link(name = "pcap")]
unsafe extern "C" {
    fn pcap_open_dead(linktype: c_int, snaplen: c_int) -> *mut c_void;
    fn pcap_close(handle: *mut c_void);
    fn pcap_geterr(handle: *mut c_void) -> *const c_char;
    fn pcap_compile(
        handle: *mut c_void,
        program: *mut Program,
        text: *const c_char,
        optimize: c_int,
        netmask: c_uint,
    ) -> c_int;
    fn pcap_freecode(program: *mut Program);
    fn pcap_offline_filter(
        program: *const Program,
        header: *const PacketHeader,
        packet: *const c_uchar,
    ) -> c_int;
}

/// A compiled filter.
pub struct BpfFilter {
    program: Program,
    text: String,
}

// SAFETY: the program is plain memory that libpcap allocated and that only this value points to;
// no function of libpcap ties it to the thread that compiled it.
unsafe impl Send for BpfFilter {}

/// A handle that only compiles; closed when dropped.
struct Compiler(NonNull<c_void>);

impl Compiler {
    fn open(linktype: i32, snaplen: u32) -> Option<Self> {
        let snaplen = c_int::try_from(snaplen).unwrap_or(c_int::MAX);
        // SAFETY: takes two numbers, touches no memory of ours; null means failure.
        NonNull::new(unsafe { pcap_open_dead(linktype, snaplen) }).map(Self)
    }

    fn error(&self) -> String {
        // SAFETY: the handle is open; the answer points into it and is NUL-terminated.
        let words = unsafe { pcap_geterr(self.0.as_ptr()) };
        if words.is_null() {
            return "unknown error".to_owned();
        }
        // SAFETY: not null, NUL-terminated, and valid while the handle is, which `self` keeps.
        let words = unsafe { CStr::from_ptr(words) };
        words.to_string_lossy().into_owned()
    }

    fn compile(&self, text: &CStr) -> Result<Program, String> {
        let mut program = Program {
            length: 0,
            instructions: ptr::null_mut(),
        };
        // SAFETY: handle open, `program` is ours to fill, `text` NUL-terminated; none is kept.
        let answer = unsafe {
            pcap_compile(
                self.0.as_ptr(),
                &raw mut program,
                text.as_ptr(),
                1,
                NETMASK_UNKNOWN,
            )
        };
        if answer == 0 {
            Ok(program)
        } else {
            Err(self.error())
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed only here; a compiled program does not refer to it.
        unsafe { pcap_close(self.0.as_ptr()) };
    }
}

impl BpfFilter {
    /// Compiles `text` for packets of a link type. The empty text matches every packet.
    pub fn compile(text: &str, linktype: i32, snaplen: u32) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong(text.len()));
        }
        let c_text = CString::new(text).map_err(|error| FilterError::Nul(error.nul_position()))?;
        let compiler =
            Compiler::open(dlt(linktype), snaplen.max(1)).ok_or(FilterError::Linktype(linktype))?;
        let program = compiler.compile(&c_text).map_err(FilterError::Syntax)?;
        Ok(Self {
            program,
            text: text.to_owned(),
        })
    }

    /// Whether a packet of which `data` was captured and that was `orig_len` long matches.
    pub fn matches(&self, data: &[u8], orig_len: u32) -> bool {
        let header = PacketHeader {
            time: libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
            captured: u32::try_from(data.len()).unwrap_or(u32::MAX),
            length: orig_len,
        };
        // SAFETY: the program was compiled by libpcap, which checks each load against `captured`,
        // the length of `data` or less; nothing is written or kept.
        let answer = unsafe {
            pcap_offline_filter(&raw const self.program, &raw const header, data.as_ptr())
        };
        answer != 0
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for BpfFilter {
    fn drop(&mut self) {
        // SAFETY: filled by `pcap_compile`, freed only here.
        unsafe { pcap_freecode(&raw mut self.program) };
    }
}

impl fmt::Debug for BpfFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BpfFilter({:?})", self.text)
    }
}

/// libpcap's number of a link type: what files call LINKTYPE_RAW is DLT_RAW on Linux.
fn dlt(linktype: i32) -> c_int {
    match linktype {
        101 => 12,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame of type IPv4 with protocol TCP, cut to 60 bytes.
    fn snapped() -> Vec<u8> {
        let mut frame = vec![0; 60];
        (frame[12], frame[13], frame[14], frame[23]) = (8, 0, 0x45, 6);
        frame
    }

    #[test]
    fn length_is_the_one_on_the_wire() {
        let filter = BpfFilter::compile("greater 1000", 1, 96).unwrap();
        assert!(filter.matches(&snapped(), 1514));
        assert!(!filter.matches(&snapped(), 60));
    }

    #[test]
    fn a_packet_too_short_for_the_question_does_not_match() {
        let filter = BpfFilter::compile("tcp port 80", 1, 96).unwrap();
        assert!(!filter.matches(&[], 0));
        assert!(!filter.matches(&snapped()[..20], 1514));
    }

    #[test]
    fn everything_matches_the_empty_filter() {
        assert!(BpfFilter::compile("", 1, 96).unwrap().matches(&[], 60));
    }

    #[test]
    fn link_types_differ() {
        let ip = [
            0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
        ];
        for linktype in [12, 101] {
            let filter = BpfFilter::compile("udp and host 2.2.2.2", linktype, 0).unwrap();
            assert!(filter.matches(&ip, 20), "{linktype}");
        }
    }

    #[test]
    fn errors_are_in_libpcaps_words_or_say_what_is_wrong() {
        let refused = |text: &str| BpfFilter::compile(text, 1, 96).unwrap_err();
        let FilterError::Syntax(words) = refused("tcp prot 80") else {
            panic!("not a syntax error");
        };
        assert!(words.contains("syntax error"), "{words}");
        assert_eq!(refused("tcp\0"), FilterError::Nul(3));
        assert_eq!(refused(&"(".repeat(5000)), FilterError::TooLong(5000));
        // Deep nesting within the limit is libpcap's to refuse or take; it must come back.
        let deep = format!("{}tcp{}", "(".repeat(2000), ")".repeat(2000));
        let _answer = BpfFilter::compile(&deep, 1, 96);
    }

    #[test]
    fn a_filter_may_move_to_another_thread() {
        let filter = BpfFilter::compile("tcp", 1, 96).unwrap();
        let moved = std::thread::spawn(move || filter.matches(&snapped(), 60));
        assert!(moved.join().unwrap());
    }
}
