//! Access to the configuration of a layer, with errors that name the attribute.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Sizes, strides, paddings and other counts of a layer; far above what any network uses, far below overflow.
const MAX_COUNT: u64 = 1 << 30;
/// Strides, dilations and kernel sizes.
const MAX_STEP: usize = 1 << 16;

/// A layer's `config` dictionary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Map<String, Value>);

impl Attributes {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// The raw value; `None` if it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn insert(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            // Files from Keras 2 also have 0 and 1.
            Some(value) => value.as_bool().or_else(|| value.as_u64().map(|n| n != 0)).ok_or_else(|| wrong(key, value, "true or false")),
        }
    }

    pub(crate) fn float(&self, key: &str, default: f32) -> Result<f32> {
        self.get(key).map_or(Ok(default), |value| float(value).ok_or_else(|| wrong(key, value, "a number")))
    }

    pub(crate) fn integer(&self, key: &str, default: i64) -> Result<i64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let bounded = value.as_i64().filter(|n| n.unsigned_abs() <= MAX_COUNT);
        bounded.ok_or_else(|| wrong(key, value, "an integer"))
    }

    pub(crate) fn count(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |value| count(value).ok_or_else(|| wrong(key, value, "a count")))
    }

    /// Integers: a list, or one number that stands for a list of one.
    pub(crate) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let one = |v: &Value| v.as_i64().filter(|n| n.unsigned_abs() <= MAX_COUNT);
        let list = match value {
            Value::Array(items) => items.iter().map(one).collect(),
            one_number => one(one_number).map(|n| vec![n]),
        };
        list.map(Some).ok_or_else(|| wrong(key, value, "integers"))
    }

    /// A step (stride, dilation, window size) per spatial axis; one number stands for all axes. At least 1 each.
    pub(crate) fn steps(&self, key: &str, axes: usize) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let step = |v: &Value| count(v).filter(|n| (1..=MAX_STEP).contains(n));
        let list: Option<Vec<usize>> = match value {
            Value::Array(items) => items.iter().map(step).collect(),
            one => step(one).map(|n| vec![n; axes]),
        };
        let list = list.filter(|l| l.len() == axes);
        list.map(Some).ok_or_else(|| wrong(key, value, &format!("{axes} numbers from 1 to {MAX_STEP}")))
    }

    /// Elements before and after each spatial axis: a number for all, one per axis, or a pair per axis.
    pub(crate) fn margins(&self, key: &str, axes: usize) -> Result<Vec<(usize, usize)>> {
        let value = self.0.get(key).unwrap_or(&Value::Null);
        let error = || wrong(key, value, "a margin, or margins per axis");
        let pair = |v: &Value| match v {
            Value::Array(items) => match items.as_slice() {
                [before, after] => Some((count(before)?, count(after)?)),
                _ => None,
            },
            one => count(one).map(|n| (n, n)),
        };
        match value {
            Value::Array(items) if axes == 1 && items.iter().all(Value::is_u64) => Ok(vec![pair(value).ok_or_else(error)?]),
            Value::Array(items) if items.len() == axes => items.iter().map(pair).collect::<Option<_>>().ok_or_else(error),
            Value::Array(_) => Err(error()),
            one => pair(one).map(|p| vec![p; axes]).ok_or_else(error),
        }
    }

    /// Numbers: a list (nested lists are flattened), one number, or an array as Keras 3 serializes it.
    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        fn collect(value: &Value, into: &mut Vec<f32>) -> Option<()> {
            match value {
                Value::Array(items) => items.iter().try_for_each(|item| collect(item, into)),
                Value::Object(map) => collect(map.get("config")?.get("value")?, into),
                number => float(number).map(|x| into.push(x)),
            }
        }
        let Some(value) = self.get(key) else { return Ok(None) };
        let mut numbers = Vec::new();
        collect(value, &mut numbers).map(|()| Some(numbers)).ok_or_else(|| wrong(key, value, "numbers"))
    }
}

/// A count within bounds.
pub(crate) fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|n| *n <= MAX_COUNT).and_then(|n| usize::try_from(n).ok())
}

/// A number in single precision; Keras computes in it.
#[allow(clippy::as_conversions, reason = "the only way from f64 to f32; it rounds to nearest")]
pub(crate) fn float(value: &Value) -> Option<f32> {
    value.as_f64().map(|x| x as f32)
}

fn wrong(key: &str, value: &Value, wanted: &str) -> Error {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(60) {
        shown.truncate(end);
        shown.push('…');
    }
    Error::format(format!("attribute '{key}' is {shown}, but should be {wanted}"))
}
