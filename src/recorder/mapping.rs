//! Mapped memory in huge pages.
//!
//! The disk reads the slots' memory page by page: with pages of 2 MiB a segment takes 8 of them, not
//! 4096, and half the processor time of writing it goes away. tmpfs hands out small pages unless its
//! mount says otherwise (`huge=`), but since Linux 6.1 a process may ask for its own range to be
//! collapsed into huge ones (madvise(2), MADV_COLLAPSE). Where that is refused, pages stay small and
//! nothing else changes.

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A huge page of the usual processors. Elsewhere the kernel refuses, and small pages do.
const HUGE_BYTES: usize = 2 << 20;
const SMALL_BYTES: usize = 4096;

/// Maps the first `len` bytes of `file`, where possible at an address at which huge pages fit.
pub(super) fn map(file: &File, len: usize) -> io::Result<MmapRaw> {
    let mapped = MmapOptions::new().len(len).map_raw(file)?;
    let over = mapped.as_ptr().addr() % HUGE_BYTES;
    if len < HUGE_BYTES || over == 0 {
        return Ok(mapped);
    }
    drop(mapped);
    // The kernel places mappings downwards from the last one: a mapping longer by the overhang ends
    // where this one did and begins at the boundary. Nobody touches what lies behind the file's end.
    let longer = MmapOptions::new().len(len + over).map_raw(file)?;
    if longer.as_ptr().addr().is_multiple_of(HUGE_BYTES) {
        return Ok(longer);
    }
    drop(longer);
    MmapOptions::new().len(len).map_raw(file)
}

/// Asks for huge pages under the first `len` bytes of a fresh mapping; how many bytes have them.
pub(super) fn enlarge(map: &MmapRaw, len: usize) -> usize {
    let mut large = 0;
    while large + HUGE_BYTES <= len {
        // A range without a single page is not collapsed.
        let touched = map.advise_range(Advice::PopulateWrite, large, SMALL_BYTES);
        if let Err(error) = touched.and_then(|()| collapse(map, large)) {
            tracing::debug!(%error, large, "the kernel gives no more huge pages here");
            break;
        }
        large += HUGE_BYTES;
    }
    large
}

#[expect(unsafe_code, reason = "an advice that memmap2 does not know")]
fn collapse(map: &MmapRaw, at: usize) -> io::Result<()> {
    const MADV_COLLAPSE: libc::c_int = 25;
    assert!(at + HUGE_BYTES <= map.len(), "outside the mapping");
    let start = map.as_mut_ptr().wrapping_add(at);
    // SAFETY: the range was just checked to lie inside the mapping, which lives as long as the
    // call; the advice changes which pages back it, not what it holds.
    let result = unsafe { libc::madvise(start.cast(), HUGE_BYTES, MADV_COLLAPSE) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_mapping_is_the_file_whatever_its_pages() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        let len = 3 * HUGE_BYTES + SMALL_BYTES;
        file.set_len(u64::try_from(len).unwrap()).unwrap();
        file.write_all_at(b"before", 10).unwrap();
        let map = map(&file, len).unwrap();
        assert!(map.len() >= len);
        let large = enlarge(&map, len);
        assert!(large <= len && large.is_multiple_of(HUGE_BYTES));
        file.write_all_at(b"after", u64::try_from(len).unwrap() - 5)
            .unwrap();
        let mut read = [0; 6];
        file.read_exact_at(&mut read, 10).unwrap();
        assert_eq!(&read, b"before");
    }
}
