//! Which samples of the data are taken: the first few, and of those one share of several.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Share `index` of `count`, counted from 1: the samples `index - 1`, `index - 1 + count`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Share `index` of `count`; an error unless 1 ≤ `index` ≤ `count`.
    pub fn new(index: usize, count: usize) -> Result<Self> {
        if (1..=count).contains(&index) {
            return Ok(Self { index, count });
        }
        Err(Error::settings(format!("shard {index}/{count}: shares are counted from 1, as 1/{0} to {0}/{0}", count.max(1))))
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        let (index, count) = parts.ok_or_else(|| Error::settings(format!("shard `{text}` is not of the form 1/4")))?;
        Self::new(index, count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// The samples that are taken, as an arithmetic progression over the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picks {
    first: usize,
    step: usize,
    len: usize,
}

impl Picks {
    /// The first `limit` of `total` samples, and of these one share: all shares together are what one run sees.
    pub(super) fn new(total: usize, limit: Option<usize>, shard: Option<Shard>) -> Result<Self> {
        let Shard { index, count } = shard.unwrap_or(Shard { index: 1, count: 1 });
        let taken = limit.map_or(total, |l| l.min(total));
        let first = index - 1;
        let len = taken.saturating_sub(first).div_ceil(count);
        match (len, limit) {
            (0, Some(0)) => Err(Error::settings("a limit of 0 samples leaves nothing to read")),
            (0, _) => Err(Error::settings(format!("shard {index}/{count} of {taken} samples is empty; use at most {taken} shares"))),
            _ => Ok(Self { first, step: count, len }),
        }
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// Where the `i`-th taken sample lies in the data.
    pub(super) fn at(self, i: usize) -> Option<usize> {
        (i < self.len).then(|| self.first + i * self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_limits_pick_samples() {
        for (total, limit, shard, expect) in [
            (5, None, None, Some(vec![0, 1, 2, 3, 4])),
            (5, Some(3), None, Some(vec![0, 1, 2])),
            (5, Some(9), None, Some(vec![0, 1, 2, 3, 4])),
            (5, None, Some("1/2"), Some(vec![0, 2, 4])),
            (5, None, Some("2/2"), Some(vec![1, 3])),
            (5, Some(4), Some("3/3"), Some(vec![2])),
            (5, Some(0), None, None),
            (2, None, Some("3/3"), None),
        ] {
            let shard = shard.map(|s| s.parse().unwrap());
            let picks = Picks::new(total, limit, shard).map(|p| (0..=p.len()).filter_map(|i| p.at(i)).collect());
            assert_eq!(picks.ok(), expect, "{total} {limit:?} {shard:?}");
        }
    }

    #[test]
    fn malformed_shares_are_refused() {
        for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1/99999999999999999999999"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
    }
}
