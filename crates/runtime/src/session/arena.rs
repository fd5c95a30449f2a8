//! Places buffers in one arena so that those alive at the same time do not overlap.
//!
//! In: the size and the first and last step of each buffer. Out: an offset for each. Larger buffers go first, each into
//! the smallest gap that fits between those already placed that live at the same time (greedy by size, as in Pisarchyk
//! and Lee, *Efficient memory management for deep neural net inference*, 2020).

use crate::{Error, ErrorKind, Result};

/// Buffers start at multiples of this many elements: one cache line of `f32`.
pub(super) const ALIGNMENT: usize = 16;

/// The most elements of an arena: 64 GB, beyond which a shape is a mistake rather than a network.
const MOST_ELEMENTS: usize = 1 << 34;

/// How large a buffer is and which steps it lives through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub(super) len: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Where each buffer starts, and how many elements they take together.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) offsets: Vec<usize>,
    pub(super) len: usize,
}

/// Assigns offsets; an error where the sum is too large to allocate.
pub(super) fn assign(buffers: &[Lifetime]) -> Result<Arena> {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].len), i));
    let mut arena = Arena { offsets: vec![0; buffers.len()], len: 0 };
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for i in order {
        let len = buffers[i].len.checked_next_multiple_of(ALIGNMENT).filter(|&len| len <= MOST_ELEMENTS).ok_or_else(too_large)?;
        let alive = placed.iter().copied().filter(|&p| buffers[p].first <= buffers[i].last && buffers[i].first <= buffers[p].last);
        let (mut end, mut best) = (0, None);
        for p in alive {
            let start = arena.offsets[p];
            if start >= end + len && best.is_none_or(|(gap, _)| start - end < gap) {
                best = Some((start - end, end));
            }
            end = end.max(start + buffers[p].len.next_multiple_of(ALIGNMENT));
        }
        let offset = best.map_or(end, |(_, offset)| offset);
        arena.offsets[i] = offset;
        arena.len = arena.len.max(offset + len);
        if arena.len > MOST_ELEMENTS {
            return Err(too_large());
        }
        let at = placed.partition_point(|&p| arena.offsets[p] <= offset);
        placed.insert(at, i);
    }
    Ok(arena)
}

fn too_large() -> Error {
    Error::new(ErrorKind::Limit, format!("the values of one run take more than {MOST_ELEMENTS} elements; give smaller inputs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(rows: &[(usize, usize, usize)]) -> Vec<Lifetime> {
        rows.iter().map(|&(len, first, last)| Lifetime { len, first, last }).collect()
    }

    #[test]
    fn buffers_alive_together_do_not_overlap_and_others_share() {
        for (name, rows, len) in [
            ("none", &[][..], 0),
            ("a chain needs two", &[(16, 0, 1), (16, 1, 2), (16, 2, 3), (16, 3, 4)], 32),
            ("a branch needs three", &[(16, 0, 3), (16, 1, 2), (16, 2, 3)], 48),
            ("sizes round up", &[(1, 0, 1), (17, 1, 2)], 48),
            ("empty ones take nothing", &[(0, 0, 9), (16, 0, 9)], 16),
            ("a gap is filled", &[(64, 0, 1), (32, 0, 9), (48, 2, 3), (16, 2, 3)], 96),
            ("the smaller gap is filled", &[(16, 0, 9), (48, 0, 3), (16, 0, 9), (32, 0, 3), (16, 0, 9), (32, 4, 5), (48, 4, 5)], 128),
        ] {
            let buffers = lives(rows);
            let arena = assign(&buffers).unwrap();
            assert_eq!(arena.len, len, "{name}: {:?}", arena.offsets);
            for (i, a) in buffers.iter().enumerate() {
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = arena.offsets[i] + a.len <= arena.offsets[j] || arena.offsets[j] + b.len <= arena.offsets[i];
                    assert!(!together || apart || a.len * b.len == 0, "{name}: {i} and {j} overlap");
                }
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for rows in [&[(usize::MAX, 0, 1)][..], &[(MOST_ELEMENTS, 0, 1), (MOST_ELEMENTS, 0, 1)]] {
            assert_eq!(assign(&lives(rows)).unwrap_err().kind(), ErrorKind::Limit);
        }
    }
}
