//! Reads a PyTorch state dict in the format before 1.6: several pickles, then the raw storages.
//!
//! Pickle is a program for a stack machine and can be made to run anything. This machine knows the opcodes that a state
//! dict needs and the four callables that it names; anything else is an error, and nothing is ever executed.

mod pickle;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use fewbit_tensor::Tensor;

use pickle::{Pickle, Value};

/// The magic number, of more than 64 bits, as its little-endian bytes.
const MAGIC_BYTES: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version that follows it.
const PROTOCOL: i64 = 1001;

/// The tensors of a state dict by name; only those of float32 are kept.
pub(crate) fn read_state_dict(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut rest = bytes;
    let mut next = || {
        Pickle::new(rest).run().map(|(value, left)| {
            rest = left;
            value
        })
    };
    ensure!(matches!(next()?, Value::Long(b) if b == MAGIC_BYTES), "this is no state dict of the format before PyTorch 1.6");
    ensure!(matches!(next()?, Value::Int(PROTOCOL)), "a version of the format that is not known");
    next().context("system info")?;
    let dict = next().context("state dict")?;
    let keys = next().context("storage keys")?;
    let (Value::Dict(entries), Value::List(keys)) = (dict, keys) else { bail!("the state dict is no dictionary") };
    let storages = read_storages(rest, &keys, &storage_kinds(&entries))?;
    let mut tensors = BTreeMap::new();
    for (name, value) in entries {
        let (Value::Text(name), Value::Tensor(tensor)) = (name, value) else { continue };
        let Some(Storage::Floats(data)) = storages.get(&tensor.storage) else { continue };
        let len: usize = tensor.shape.iter().product();
        ensure!(tensor.is_contiguous(), "'{name}' is not contiguous");
        let end = tensor.offset.checked_add(len).filter(|end| *end <= data.len());
        let end = end.with_context(|| format!("'{name}' lies outside its storage"))?;
        tensors.insert(name, Tensor::from_vec(tensor.shape, data[tensor.offset..end].to_vec())?);
    }
    Ok(tensors)
}

enum Storage {
    Floats(Vec<f32>),
    Other,
}

/// Bytes per element of each storage, by key, and whether they are floats.
fn storage_kinds(entries: &[(Value, Value)]) -> BTreeMap<String, (usize, bool)> {
    let tensors = entries.iter().filter_map(|(_, v)| if let Value::Tensor(t) = v { Some(t) } else { None });
    tensors.map(|t| (t.storage.clone(), (t.element_size, t.is_float))).collect()
}

/// Storages stand in the order of the keys: a count of elements (64 bits), then the elements.
fn read_storages(mut bytes: &[u8], keys: &[Value], kinds: &BTreeMap<String, (usize, bool)>) -> Result<BTreeMap<String, Storage>> {
    let mut storages = BTreeMap::new();
    for key in keys {
        let Value::Text(key) = key else { bail!("a storage key is no text") };
        let &(size, is_float) = kinds.get(key).with_context(|| format!("storage {key} belongs to no tensor"))?;
        let (count, after) = bytes.split_first_chunk::<8>().context("the file ends within a storage")?;
        let len = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(size)).filter(|n| *n <= after.len());
        let (data, after) = after.split_at(len.context("the file ends within a storage")?);
        let storage = if is_float {
            Storage::Floats(data.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect())
        } else {
            Storage::Other
        };
        storages.insert(key.clone(), storage);
        bytes = after;
    }
    Ok(storages)
}
