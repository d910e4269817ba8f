//! Copies packets past the cache.
//!
//! What is recorded is not read again before it goes to the disk. A plain store first fetches the line
//! it is about to overwrite and then pushes other lines out; a non-temporal one does neither, which
//! takes a quarter off the cost of large packets (docs/PERFORMANCE.md).

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Copies `src` to `dst`, which are of one length. Nobody, this thread included, may look at `dst` before
/// [`settle`] was called. A line that is not filled as a whole costs more past the cache than in it, so
/// those at both ends go the plain way; the caller sees to it that there are few.
///
/// # Panics
/// When the lengths differ, as `copy_from_slice` does.
#[inline]
pub fn streamed(dst: &mut [u8], src: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if whole_lines(dst, src).is_some() {
        return;
    }
    dst.copy_from_slice(src);
}

/// Waits until everything that this thread copied with [`streamed`] is where others see it.
#[inline]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "an instruction of the processor")
)]
pub fn settle() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SFENCE needs SSE, which every x86-64 has; it touches no memory.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Whole lines past the cache, the two ends the plain way: packets share the lines at their ends.
/// `None`, with nothing certain about `dst`, when the lengths differ.
#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "instructions of the processor")]
fn whole_lines(dst: &mut [u8], src: &[u8]) -> Option<()> {
    if dst.len() != src.len() {
        return None;
    }
    let head = dst.as_ptr().align_offset(LINE);
    let middle = src.len().checked_sub(head)? / LINE * LINE;
    let (dst_head, dst) = dst.split_at_mut_checked(head)?;
    let (dst_middle, dst_tail) = dst.split_at_mut_checked(middle)?;
    let (src_head, src) = src.split_at_checked(head)?;
    let (src_middle, src_tail) = src.split_at_checked(middle)?;
    dst_head.copy_from_slice(src_head);
    // SAFETY: every x86-64 has SSE2.
    unsafe { store(dst_middle, src_middle) };
    dst_tail.copy_from_slice(src_tail);
    Some(())
}

/// Copies whole vectors of 16 bytes to an aligned place.
///
/// # Panics
/// When `dst` is not aligned, which [`whole_lines`] sees to.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
#[expect(unsafe_code, reason = "instructions of the processor")]
fn store(dst: &mut [u8], src: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_set_epi64x, _mm_stream_si128};

    assert_eq!(dst.as_ptr().align_offset(size_of::<__m128i>()), 0);
    let half = i64::from_le_bytes;
    let vectors = src.as_chunks::<8>().0.as_chunks::<2>().0;
    for (to, [low, high]) in dst.as_chunks_mut::<16>().0.iter_mut().zip(vectors) {
        let vector = _mm_set_epi64x(half(*high), half(*low));
        // SAFETY: 16 bytes that are ours to write, at an address that is a multiple of 16: the
        // first was just checked, the others follow it in steps of 16. Nobody looks at them before
        // `settle`, as `streamed` asks.
        unsafe { _mm_stream_si128(to.as_mut_ptr().cast(), vector) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_place_of_a_line_is_the_same_as_a_plain_copy() {
        let src: Vec<u8> = (0..2_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        for offset in 0..70 {
            for len in (0..300).chain([511, 512, 1498, 1514, 1900]) {
                let mut dst = vec![0xee; 2_100];
                streamed(&mut dst[offset..offset + len], &src[..len]);
                settle();
                assert!(
                    dst[..offset].iter().all(|byte| *byte == 0xee),
                    "{offset} {len}"
                );
                assert_eq!(dst[offset..offset + len], src[..len], "{offset} {len}");
                assert!(
                    dst[offset + len..].iter().all(|byte| *byte == 0xee),
                    "{offset} {len}"
                );
            }
        }
    }
}
