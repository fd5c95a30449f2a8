//! The bytes of [`Statistics`].
//!
//! ```text
//! file    = magic(8) version(u16) fingerprint(16) samples(varint) count(varint) value* checksum(u64)
//! value   = length(varint) name(utf-8) present(u8) min(f32) max(f32) mean? histogram? channels?
//! mean    = samples(varint) sum(5 × u64) sum(5 × u64)
//! histogram = pages(varint) { exponent(u16) 32 × count(varint) }*
//! channels  = axis(varint) samples(varint) channels(varint) { sum(5 × u64) }*
//! ```
//!
//! Integers are little-endian, varints LEB128, names and exponents rise strictly, and the checksum is the SipHash-1-3
//! of all bytes before it. Nothing is allocated that is more than a few times the bytes that ask for it.

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{Fingerprint, Statistics};
use crate::observe::{ChannelMean, ExactSum, Histogram, MeanMinMax, MinMax, PAGE, ValueStatistics};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"fewbitST";
/// Raised with every change of the format.
const VERSION: u16 = 1;
/// Exponents of both signs.
const PAGES: u16 = 512;
/// No real channel axis is beyond this.
const MAX_AXIS: u64 = 64;

const HAS_MEAN: u8 = 1;
const HAS_HISTOGRAM: u8 = 2;
const HAS_CHANNELS: u8 = 4;

pub(super) fn encode(s: &Statistics) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(s.fingerprint.0);
    write_varint(&mut out, s.samples);
    write_varint(&mut out, s.values.len() as u64);
    for (name, value) in &s.values {
        write_varint(&mut out, name.len() as u64);
        out.extend(name.as_bytes());
        write_value(&mut out, value);
    }
    let checksum = checksum(&out);
    out.extend(checksum.to_le_bytes());
    out
}

fn write_value(out: &mut Vec<u8>, v: &ValueStatistics) {
    let flag = |present: bool, bit: u8| if present { bit } else { 0 };
    out.push(flag(v.mean.is_some(), HAS_MEAN) | flag(v.histogram.is_some(), HAS_HISTOGRAM) | flag(v.channel_mean.is_some(), HAS_CHANNELS));
    out.extend(v.range.min.to_le_bytes());
    out.extend(v.range.max.to_le_bytes());
    if let Some(mean) = &v.mean {
        write_varint(out, mean.samples);
        write_sum(out, &mean.min_sum);
        write_sum(out, &mean.max_sum);
    }
    if let Some(histogram) = &v.histogram {
        write_varint(out, histogram.pages.len() as u64);
        for (exponent, counts) in &histogram.pages {
            out.extend(exponent.to_le_bytes());
            for &n in counts {
                write_varint(out, n);
            }
        }
    }
    if let Some(channels) = &v.channel_mean {
        write_varint(out, channels.axis as u64);
        write_varint(out, channels.samples);
        write_varint(out, channels.sums.len() as u64);
        channels.sums.iter().for_each(|sum| write_sum(out, sum));
    }
}

fn write_sum(out: &mut Vec<u8>, sum: &ExactSum) {
    sum.limbs().iter().for_each(|limb| out.extend(limb.to_le_bytes()));
}

fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Statistics> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Error::new(ErrorKind::Format, "not a statistics file of fewbit"));
    }
    let Some((body, stored)) = bytes.split_last_chunk::<8>() else {
        return Err(Error::new(ErrorKind::Format, "the statistics file is cut off"));
    };
    let mut r = Reader { bytes: body, at: MAGIC.len() };
    let version = u16::from_le_bytes(r.take()?);
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::Format,
            format!("statistics of format version {version}, this fewbit reads version {VERSION}: calibrate again"),
        ));
    }
    if checksum(body) != u64::from_le_bytes(*stored) {
        return Err(Error::new(ErrorKind::Format, "the checksum is wrong: the statistics file is cut off or damaged"));
    }
    let fingerprint = Fingerprint(r.take()?);
    let samples = r.varint()?;
    let count = r.varint()?;
    let mut values = BTreeMap::new();
    for _ in 0..count {
        let length = r.varint()?;
        let name = std::str::from_utf8(r.slice(length)?).map_err(|_| r.fail("a value name is not UTF-8"))?;
        if values.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
            return Err(r.fail("value names are not in order"));
        }
        values.insert(name.to_owned(), r.value()?);
    }
    if r.at == body.len() { Ok(Statistics { fingerprint, samples, values }) } else { Err(r.fail("there are bytes after the last value")) }
}

/// A cursor that checks every length.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail(&self, message: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{message} (byte {} of the statistics file)", self.at))
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
            Some(slice) => {
                self.at += slice.len();
                Ok(slice)
            }
            None => Err(self.fail("the file ends within a field")),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let slice = self.slice(N as u64)?;
        slice.try_into().map_err(|_| self.fail("the file ends within a field"))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return Err(self.fail("a number is not in its shortest form"));
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.fail("a number is longer than 64 bits"))
    }

    fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.take()?))
    }

    fn sum(&mut self) -> Result<ExactSum> {
        let mut limbs = [0; ExactSum::LIMBS];
        for limb in &mut limbs {
            *limb = u64::from_le_bytes(self.take()?);
        }
        Ok(ExactSum::from_limbs(limbs))
    }

    fn value(&mut self) -> Result<ValueStatistics> {
        let [present] = self.take()?;
        if present & !(HAS_MEAN | HAS_HISTOGRAM | HAS_CHANNELS) != 0 {
            return Err(self.fail("an unknown kind of statistics"));
        }
        let range = MinMax { min: self.f32()?, max: self.f32()? };
        let seen = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
        if !(seen || range == MinMax::default()) {
            return Err(self.fail("a range is not finite"));
        }
        let has = |bit| present & bit != 0;
        Ok(ValueStatistics {
            range,
            mean: has(HAS_MEAN).then(|| self.mean()).transpose()?,
            histogram: has(HAS_HISTOGRAM).then(|| self.histogram()).transpose()?,
            channel_mean: has(HAS_CHANNELS).then(|| self.channels()).transpose()?,
        })
    }

    fn mean(&mut self) -> Result<MeanMinMax> {
        Ok(MeanMinMax { samples: self.varint()?, min_sum: self.sum()?, max_sum: self.sum()? })
    }

    fn histogram(&mut self) -> Result<Histogram> {
        let mut pages = BTreeMap::new();
        for _ in 0..self.varint()? {
            let exponent = u16::from_le_bytes(self.take()?);
            if exponent >= PAGES || pages.last_key_value().is_some_and(|(last, _)| *last >= exponent) {
                return Err(self.fail("the exponents of a histogram are not in order"));
            }
            let mut counts = [0; PAGE];
            for n in &mut counts {
                *n = self.varint()?;
            }
            pages.insert(exponent, counts);
        }
        Ok(Histogram { pages })
    }

    fn channels(&mut self) -> Result<ChannelMean> {
        let axis = self.varint()?;
        if axis > MAX_AXIS {
            return Err(self.fail("a channel axis is out of bounds"));
        }
        let (samples, channels) = (self.varint()?, self.varint()?);
        let mut sums = Vec::new();
        for _ in 0..channels {
            sums.push(self.sum()?);
        }
        Ok(ChannelMean { axis: axis as usize, samples, sums })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::statistics;
    use super::*;

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&body);
        body.extend(sum.to_le_bytes());
        body
    }

    #[test]
    fn bytes_round_trip() {
        for s in [Statistics::default(), statistics(7, &[]), statistics(7, &[1.0, -2.5, 1e30])] {
            let bytes = s.to_bytes();
            let back = Statistics::from_bytes(&bytes).unwrap();
            assert_eq!(back, s);
            assert_eq!(back.to_bytes(), bytes);
        }
    }

    #[test]
    fn damage_is_seen() {
        let good = statistics(7, &[1.0, -2.5]).to_bytes();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x11;
            assert_eq!(decode(&bad).unwrap_err().kind(), ErrorKind::Format, "byte {i}");
            assert!(decode(&good[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn lies_under_a_right_checksum_are_seen() {
        let good = statistics(7, &[1.0, -2.5]).to_bytes();
        let body = &good[..good.len() - 8];
        for i in MAGIC.len()..body.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = body.to_vec();
                bad[i] ^= flip;
                // A changed count is a valid file; what matters is that nothing panics, and that what is accepted is canonical.
                let bad = sealed(bad);
                if let Ok(s) = decode(&bad) {
                    assert_eq!(s.to_bytes(), bad, "byte {i}");
                }
            }
        }
        let head = |rest: &[u8]| sealed([&MAGIC[..], &VERSION.to_le_bytes(), &[0; 16], rest].concat());
        for (rest, says) in [
            (&[0, 1][..], "ends within a field"),
            (&[0, 0, 9], "after the last value"),
            (&[0x80, 0x00, 0], "shortest form"),
            (&[0x81; 12], "64 bits"),
            (&[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "ends within a field"),
            (&[0, 1, 1, 0xff], "UTF-8"),
            (&[0, 1, 1, b'x', 8], "unknown kind"),
            (&[0, 1, 1, b'x', 0, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0], "not finite"),
        ] {
            let e = decode(&head(rest)).unwrap_err();
            assert!(e.to_string().contains(says), "{rest:?}: {e}");
        }
        let newer = sealed([&MAGIC[..], &2_u16.to_le_bytes()].concat());
        assert!(decode(&newer).unwrap_err().to_string().contains("version 2"));
    }
}
