//! The stack machine: protocol 2 as far as a state dict needs it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// What can be on the stack.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    /// An integer of more than 64 bits, as little-endian bytes.
    Long(Vec<u8>),
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Callable(Callable),
    Storage {
        key: String,
        element_size: usize,
        is_float: bool,
    },
    Tensor(TensorView),
    Mark,
}

/// The callables that a state dict may name. They stand for themselves; none is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    Storage { element_size: usize, is_float: bool },
}

/// Names on the allow list.
const CALLABLES: &[(&str, &str, Callable)] = &[
    ("collections", "OrderedDict", Callable::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Callable::RebuildTensor),
    ("torch", "FloatStorage", Callable::Storage { element_size: 4, is_float: true }),
    ("torch", "LongStorage", Callable::Storage { element_size: 8, is_float: false }),
];

/// A tensor over a part of a storage.
#[derive(Clone, Debug)]
pub(super) struct TensorView {
    pub(super) storage: String,
    pub(super) element_size: usize,
    pub(super) is_float: bool,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    strides: Vec<usize>,
}

impl TensorView {
    pub(super) fn is_contiguous(&self) -> bool {
        self.strides == fewbit_tensor::strides(&self.shape)
    }
}

/// One pickle in a stream of bytes.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
}

impl<'a> Pickle<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, stack: Vec::new(), memo: BTreeMap::new() }
    }

    /// Runs to the end of the pickle; returns its value and the bytes behind it.
    pub(super) fn run(mut self) -> Result<(Value, &'a [u8])> {
        loop {
            match self.byte()? {
                0x80 => ensure!(self.byte()? == 2, "a pickle protocol other than 2"),
                b'.' => return Ok((self.pop()?, self.bytes)),
                b'(' => self.stack.push(Value::Mark),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'K' => {
                    let n = self.byte()?;
                    self.stack.push(Value::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                0x8a => {
                    let len = self.byte()?;
                    let bytes = self.take(len.into())?.to_vec();
                    self.stack.push(Value::Long(bytes));
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.array()?);
                    let text = std::str::from_utf8(self.take(len as usize)?)?.to_owned();
                    self.stack.push(Value::Text(text));
                }
                b'c' => self.global()?,
                b'q' => {
                    let key = self.byte()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key)?;
                }
                b'h' => {
                    let key = self.byte()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                b')' => self.stack.push(Value::Tuple(Vec::new())),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.stack.push(Value::Tuple(items));
                }
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b']' => self.stack.push(Value::List(Vec::new())),
                b'}' => self.stack.push(Value::Dict(Vec::new())),
                b'e' => {
                    let items = self.pop_to_mark()?;
                    let Some(Value::List(list)) = self.stack.last_mut() else { bail!("items for something that is no list") };
                    list.extend(items);
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(items)?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.reduce()?,
                // Attributes of the dictionary (its metadata) say nothing about tensors.
                b'b' => drop(self.pop()?),
                other => bail!("opcode {other:#04x} is not allowed in a state dict"),
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(len).context("the file ends within a pickle")?;
        self.bytes = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("a pickle takes from an empty stack")
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark)).context("a pickle without a mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        // Only what is referred to later matters: names, callables and small tuples.
        let top = self.stack.last().context("a pickle remembers from an empty stack")?;
        if !matches!(top, Value::Dict(_) | Value::List(_)) {
            self.memo.insert(key, top.clone());
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let value = self.memo.get(&key).context("a pickle refers to what it does not have")?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.bytes.iter().position(|b| *b == b'\n').context("the file ends within a name")?;
        let line = std::str::from_utf8(self.take(end)?)?;
        self.byte()?;
        Ok(line)
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        let callable = CALLABLES.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        let (_, _, callable) = callable.with_context(|| format!("{module}.{name} is not on the list of what a state dict may name"))?;
        self.stack.push(Value::Callable(*callable));
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let at = self.stack.len().checked_sub(len).context("a pickle takes from an empty stack")?;
        let items = self.stack.split_off(at);
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        let Some(Value::Dict(dict)) = self.stack.last_mut() else { bail!("items for something that is no dictionary") };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }

    /// `("storage", type, key, device, elements, view)`.
    fn persistent(&mut self) -> Result<()> {
        let Value::Tuple(id) = self.pop()? else { bail!("a persistent id that is no tuple") };
        let [Value::Text(kind), Value::Callable(Callable::Storage { element_size, is_float }), Value::Text(key), ..] = &id[..] else {
            bail!("a persistent id that names no storage");
        };
        ensure!(kind == "storage", "a persistent id of kind '{kind}'");
        self.stack.push(Value::Storage { key: key.clone(), element_size: *element_size, is_float: *is_float });
        Ok(())
    }

    fn reduce(&mut self) -> Result<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Callable(callable), Value::Tuple(arguments)) = (callable, arguments) else { bail!("a call of what is no callable") };
        let value = match (callable, &arguments[..]) {
            (Callable::OrderedDict, []) => Value::Dict(Vec::new()),
            (
                Callable::RebuildTensor,
                [Value::Storage { key, element_size, is_float }, Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..],
            ) => Value::Tensor(TensorView {
                storage: key.clone(),
                element_size: *element_size,
                is_float: *is_float,
                offset: usize::try_from(*offset)?,
                shape: sizes(shape)?,
                strides: sizes(strides)?,
            }),
            _ => bail!("{callable:?} with arguments that it does not take"),
        };
        self.stack.push(value);
        Ok(())
    }
}

fn sizes(values: &[Value]) -> Result<Vec<usize>> {
    values.iter().map(|v| if let Value::Int(n) = v { Ok(usize::try_from(*n)?) } else { bail!("a size that is no number") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_off_the_list_is_named() {
        let error = Pickle::new(b"\x80\x02cos\nsystem\n.").run().unwrap_err();
        assert!(error.to_string().contains("os.system"), "{error}");
        assert!(Pickle::new(b"\x80\x02i.").run().is_err());
        assert!(Pickle::new(b"\x80\x02X\xff\xff\xff\xff").run().is_err());
    }
}
