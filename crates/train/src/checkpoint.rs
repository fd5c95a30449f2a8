//! A training between two epochs as bytes, so that it can go on later and end as if it had not been interrupted.
//!
//! ```text
//! file   = magic(8) version(u16) length(u64) header(JSON) floats(f32)* checksum(u64)
//! floats = parameters, then the best parameters if there are any, then moments, each in the parameters' order
//! ```
//!
//! Integers and floats are little-endian; the checksum is the SipHash-1-3 of all bytes before it. What a header announces is
//! compared with the training that goes on before anything is allocated.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::autodiff::Parameters;
use crate::trainer::{EpochRecord, Settings, Trainer};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"fewbitTR";
/// Raised with every change of the format.
const VERSION: u16 = 1;
/// Bytes before the header.
const PREFIX: usize = 18;
const CHECKSUM: usize = 8;

#[derive(Serialize, Deserialize)]
struct Header {
    settings: Settings,
    epoch: usize,
    steps: u64,
    history: Vec<EpochRecord>,
    best: Option<f64>,
    /// Name and length of each parameter.
    parameters: Vec<(String, usize)>,
    /// How many moments each has.
    moments: Vec<usize>,
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Checkpoint, format!("the checkpoint is damaged: {what}"))
}

impl Trainer {
    /// The training as bytes.
    ///
    /// # Errors
    /// If a number of its history cannot be written.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>> {
        let parameters = &self.network.parameters;
        let header = Header {
            settings: self.settings.clone(),
            epoch: self.epoch,
            steps: self.optimizer.steps(),
            history: self.history.clone(),
            best: self.best.as_ref().map(|(score, _)| *score),
            parameters: parameters.iter().map(|(_, p)| (p.name.clone(), p.values.len())).collect(),
            moments: self.optimizer.moments().iter().map(Vec::len).collect(),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::new(ErrorKind::Checkpoint, e.to_string()))?;
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        let mut floats = |values: &[f32]| values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        parameters.iter().for_each(|(_, p)| floats(&p.values));
        if let Some((_, best)) = &self.best {
            best.iter().for_each(|(_, p)| floats(&p.values));
        }
        self.optimizer.moments().iter().flatten().for_each(|m| floats(m));
        let checksum = checksum(&bytes);
        bytes.extend(checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Takes up a training where a checkpoint of it was made: this one must be of the same network with the same settings.
    ///
    /// # Errors
    /// If the checkpoint is damaged or of another training; this one is then as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(|| damaged("it is too short"))?;
        if body.len() < PREFIX || body[..8] != MAGIC {
            return Err(Error::new(ErrorKind::Checkpoint, "this is no checkpoint of a training"));
        }
        let version = u16::from_le_bytes([body[8], body[9]]);
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::Checkpoint,
                format!("the checkpoint has version {version}, this is version {VERSION}: train anew"),
            ));
        }
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(damaged("its checksum is wrong"));
        }
        let (length, rest) = body[10..].split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|n| *n <= rest.len());
        let (header, floats) = rest.split_at(length.ok_or_else(|| damaged("its header is cut off"))?);
        let header: Header = serde_json::from_slice(header).map_err(damaged)?;
        self.check(&header)?;
        let lens: Vec<usize> = header.parameters.iter().map(|(_, len)| *len).collect();
        let mut floats = floats.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let mut take = |len: usize| -> Result<Vec<f32>> {
            let values: Vec<f32> = floats.by_ref().take(len).collect();
            if values.len() == len { Ok(values) } else { Err(damaged("numbers are missing")) }
        };
        let mut fill = |parameters: &Parameters| -> Result<Parameters> {
            let mut parameters = parameters.clone();
            parameters.iter_mut().try_for_each(|(id, p)| take(lens[id.index()]).map(|values| p.values = values))?;
            Ok(parameters)
        };
        let parameters = fill(&self.network.parameters)?;
        let best = header.best.map(|score| Ok::<_, Error>((score, fill(&self.network.parameters)?))).transpose()?;
        let mut moments = Vec::with_capacity(header.moments.len());
        for (count, len) in header.moments.iter().zip(&lens) {
            moments.push((0..*count).map(|_| take(*len)).collect::<Result<Vec<_>>>()?);
        }
        self.network.parameters = parameters;
        self.best = best;
        self.optimizer.restore(header.steps, moments);
        self.epoch = header.epoch;
        self.history = header.history;
        Ok(())
    }

    fn check(&self, header: &Header) -> Result<()> {
        let other = |what: String| Err(Error::new(ErrorKind::Checkpoint, format!("the checkpoint is of another training: {what}")));
        if header.settings != self.settings {
            return other(format!("its settings were {:?}, these are {:?}", header.settings, self.settings));
        }
        if header.parameters.len() != self.network.parameters.len() {
            return other(format!("it has {} parameters, the network {}", header.parameters.len(), self.network.parameters.len()));
        }
        for ((name, len), (_, p)) in header.parameters.iter().zip(self.network.parameters.iter()) {
            if *name != p.name || *len != p.values.len() {
                return other(format!("its parameter '{name}' has {len} numbers, the network's '{}' {}", p.name, p.values.len()));
            }
        }
        // Moments are none, one or two by parameter.
        let fits = header.moments.len() <= header.parameters.len() && header.moments.iter().all(|n| *n <= 2);
        if fits { Ok(()) } else { Err(damaged("its moments do not fit its parameters")) }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
