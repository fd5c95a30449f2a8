//! Tells graphs apart.

use std::fmt;
use std::hash::Hasher;

use fewbit_ir::{Definition, Graph};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{Error, ErrorKind, Result};

/// 128 bits that depend on everything that decides the values in a graph: names, operators and constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// The fingerprint of a graph: the same on every platform, whatever the order in which nodes were added.
    ///
    /// # Errors
    /// If the graph has a cycle.
    pub fn of(graph: &Graph) -> Result<Self> {
        let mut hasher = Parts(SipHasher13::new());
        for value in graph.inputs.iter().chain(&graph.outputs) {
            hasher.add(graph.value(*value).name.as_bytes());
        }
        let mut constants: Vec<_> = graph
            .values()
            .filter_map(|(_, v)| match &v.definition {
                Definition::Constant(tensor) => Some((v.name.as_str(), tensor)),
                _ => None,
            })
            .collect();
        constants.sort_by_key(|(name, _)| *name);
        for (name, tensor) in constants {
            hasher.add(name.as_bytes());
            hasher.add(format!("{}{:?}", tensor.dtype(), tensor.shape()).as_bytes());
            hasher.add(tensor.bytes());
        }
        let mut lines = Vec::new();
        for id in graph.topological_order()? {
            lines.push(fewbit_ir::text::line(graph, graph.node(id)));
        }
        lines.sort();
        for line in lines {
            hasher.add(line.as_bytes());
        }
        Ok(Self(hasher.0.finish128().as_bytes()))
    }

    /// An error if these statistics are not of that graph.
    pub(crate) fn check(self, graph: &Graph) -> Result<()> {
        let own = Self::of(graph)?;
        if own == self {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Statistics,
            format!("the statistics are of another graph ({self}, not {own}): calibrate this model with this version of fewbit"),
        ))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes parts so that it matters where one ends.
struct Parts(SipHasher13);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.write(&(part.len() as u64).to_le_bytes());
        self.0.write(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Fingerprint {
        Fingerprint::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn whatever_decides_the_values_shows() {
        let base =
            "input x: f32[2]\nconst c: f32[2] = [1, 2]\na = Unary \"Relu\" (x)\nb = Binary {\"kind\":\"Add\"} (x, c)\noutput a\noutput b";
        let reordered =
            "input x: f32[2]\nconst c: f32[2] = [1, 2]\nb = Binary {\"kind\":\"Add\"} (x, c)\na = Unary \"Relu\" (x)\noutput a\noutput b";
        assert_eq!(of(base), of(base));
        assert_eq!(of(base), of(reordered));
        for (from, to) in [("[1, 2]", "[1, 3]"), ("Relu", "Tanh"), ("Add", "Mul"), ("(x, c)", "(a, c)"), ("output b", "output a")] {
            assert_ne!(of(base), of(&base.replace(from, to)), "{from} to {to}");
        }
    }

    #[test]
    fn statistics_of_another_graph_are_refused() {
        let graph: Graph = "input x: f32[2]\na = Unary \"Relu\" (x)\noutput a".parse().unwrap();
        assert!(Fingerprint::of(&graph).unwrap().check(&graph).is_ok());
        assert_eq!(Fingerprint::default().check(&graph).unwrap_err().kind(), ErrorKind::Statistics);
    }
}
