//! A node's attributes, typed and checked.
//!
//! Each getter remembers which attribute was asked for, so that what nobody asked for can be reported.

use crate::error::Within;
use crate::proto::{AttributeProto, AttributeType, GraphProto, TensorProto};
use crate::{Error, Result};

/// An attribute under the name that its node gives it: a function's node may refer to one of its call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'m> {
    pub(crate) name: &'m str,
    pub(crate) proto: &'m AttributeProto,
}

/// The attributes of one node.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'m> {
    list: Vec<Attribute<'m>>,
    asked: Vec<&'static str>,
}

impl<'m> Attributes<'m> {
    /// The attributes of a node, with references to attributes of the enclosing call resolved. One that refers to
    /// an attribute that the call leaves out is left out too.
    pub(crate) fn resolve(attributes: &'m [AttributeProto], of_call: &[Attribute<'m>]) -> Self {
        let resolve = |proto: &'m AttributeProto| match proto.ref_attr_name() {
            "" => Some(Attribute { name: proto.name(), proto }),
            wanted => of_call.iter().find(|a| a.name == wanted).map(|a| Attribute { name: proto.name(), proto: a.proto }),
        };
        Self { list: attributes.iter().filter_map(resolve).collect(), asked: Vec::new() }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Attribute<'m>] {
        &self.list
    }

    /// Names that no getter has asked for.
    pub(crate) fn unasked(&self) -> Vec<&'m str> {
        self.list.iter().map(|a| a.name).filter(|name| !self.asked.contains(name)).collect()
    }

    fn find(&mut self, name: &'static str) -> Option<&'m AttributeProto> {
        self.asked.push(name);
        self.list.iter().find(|a| a.name == name).map(|a| a.proto)
    }

    fn get<T>(
        &mut self,
        name: &'static str,
        wanted: AttributeType,
        value: impl FnOnce(&'m AttributeProto) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(proto) = self.find(name) else { return Ok(None) };
        // Files of the first version of the format have no types.
        let typed = proto.r#type() == i32::from(wanted) || proto.r#type() == i32::from(AttributeType::Undefined);
        match value(proto).filter(|_| typed) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::malformed(format!("attribute '{name}' is no {}", wanted.as_str_name()))),
        }
    }

    /// An integer.
    pub(crate) fn int(&mut self, name: &'static str) -> Result<Option<i64>> {
        self.get(name, AttributeType::Int, |a| Some(a.i()))
    }

    /// An integer, or its default.
    pub(crate) fn int_or(&mut self, name: &'static str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that says yes or no.
    pub(crate) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// An integer that is a size.
    pub(crate) fn size(&mut self, name: &'static str) -> Result<Option<usize>> {
        self.int(name)?.map(|i| size(i).within(|| format!("attribute '{name}'"))).transpose()
    }

    /// A float, or its default.
    pub(crate) fn float_or(&mut self, name: &'static str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A float.
    pub(crate) fn float(&mut self, name: &'static str) -> Result<Option<f32>> {
        self.get(name, AttributeType::Float, |a| Some(a.f()))
    }

    /// A string, or its default.
    pub(crate) fn text_or(&mut self, name: &'static str, default: &'static str) -> Result<&'m str> {
        Ok(self.get(name, AttributeType::String, |a| std::str::from_utf8(a.s()).ok())?.unwrap_or(default))
    }

    /// A list of integers.
    pub(crate) fn ints(&mut self, name: &'static str) -> Result<Option<&'m [i64]>> {
        self.get(name, AttributeType::Ints, |a| Some(a.ints.as_slice()))
    }

    /// A list of sizes.
    pub(crate) fn sizes(&mut self, name: &'static str) -> Result<Option<Vec<usize>>> {
        let Some(ints) = self.ints(name)? else { return Ok(None) };
        ints.iter().map(|i| size(*i)).collect::<Result<_>>().within(|| format!("attribute '{name}'")).map(Some)
    }

    /// A list of floats.
    pub(crate) fn floats(&mut self, name: &'static str) -> Result<Option<&'m [f32]>> {
        self.get(name, AttributeType::Floats, |a| Some(a.floats.as_slice()))
    }

    /// A tensor.
    pub(crate) fn tensor(&mut self, name: &'static str) -> Result<Option<&'m TensorProto>> {
        self.get(name, AttributeType::Tensor, |a| a.t.as_ref())
    }

    /// A graph.
    pub(crate) fn graph(&mut self, name: &'static str) -> Result<&'m GraphProto> {
        let graph = self.get(name, AttributeType::Graph, |a| a.g.as_ref())?;
        graph.ok_or_else(|| Error::malformed(format!("attribute '{name}' is missing")))
    }

    /// Whether there is an attribute of that name, of whatever type.
    pub(crate) fn has(&mut self, name: &'static str) -> bool {
        self.find(name).is_some()
    }

    /// An attribute of whatever type.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<&'m AttributeProto> {
        self.find(name)
    }

    /// Marks an attribute as understood without use: what it says does not matter at inference.
    pub(crate) fn ignore(&mut self, name: &'static str) {
        self.asked.push(name);
    }
}

fn size(i: i64) -> Result<usize> {
    usize::try_from(i).map_err(|_| Error::malformed(format!("{i} is negative or too large")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_leftovers_reported() {
        let int = |name: &str, i, t: AttributeType| AttributeProto {
            name: Some(name.into()),
            i: Some(i),
            r#type: Some(t.into()),
            ..AttributeProto::default()
        };
        let protos = [int("a", 3, AttributeType::Int), int("b", -1, AttributeType::Undefined), int("c", 1, AttributeType::Float)];
        let mut attributes = Attributes::resolve(&protos, &[]);
        assert_eq!(attributes.int_or("a", 0).unwrap(), 3);
        assert_eq!(attributes.unasked(), ["b", "c"]);
        assert_eq!(attributes.int_or("b", 0).unwrap(), -1);
        assert!(attributes.size("b").unwrap_err().to_string().contains("attribute 'b'"));
        assert!(attributes.int_or("c", 0).unwrap_err().to_string().contains("attribute 'c' is no INT"));
        assert_eq!(attributes.int_or("d", 7).unwrap(), 7);
        assert!(attributes.graph("g").unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn references_take_the_value_of_the_call() {
        let named = |name: &str, reference: &str| AttributeProto {
            name: Some(name.into()),
            ref_attr_name: Some(reference.into()),
            ..AttributeProto::default()
        };
        let given = AttributeProto { i: Some(5), ..AttributeProto::default() };
        let protos = [named("axis", "outer"), named("other", "absent")];
        let mut attributes = Attributes::resolve(&protos, &[Attribute { name: "outer", proto: &given }]);
        assert_eq!(attributes.int("axis").unwrap(), Some(5));
        assert_eq!(attributes.int("other").unwrap(), None);
    }
}
