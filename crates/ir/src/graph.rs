//! The arena of nodes and values.
//!
//! Ids are stable: removing a node leaves a hole, and nothing is renumbered, so tables that passes and planners keep
//! by id stay valid. The graph is in SSA form: a value has one definition. It need not be stored in topological
//! order; [`Graph::topological_order`] gives a deterministic one.

use std::collections::{BTreeMap, BTreeSet};

use fewbit_tensor::{DType, Tensor};

use crate::{Error, ErrorKind, Op, Result, TensorType};

/// Names a node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// Names a value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

impl NodeId {
    /// Position in a table that has a row for each node ever made.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// Position in a table that has a row for each value ever made.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// The caller of the graph.
    Input,
    /// The model file.
    Constant(Tensor),
    /// The output at `index` of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its outputs.
        index: usize,
    },
    /// Nothing any more: its node was removed. No node and no graph output may use it.
    Removed,
}

/// A tensor that flows through the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name in the source file, unique in its graph; empty for an output that the source leaves out.
    pub name: String,
    /// What is known of its type.
    pub ty: Option<TensorType>,
    /// Where it comes from.
    pub definition: Definition,
}

/// One application of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name in the source file; may be empty or shared.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Its inputs; `None` for an optional one that is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Its outputs.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// The input at `index`, if there is one.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }
}

/// One place where a value is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The consuming node.
    pub node: NodeId,
    /// Which of its inputs.
    pub index: usize,
}

/// A network, or a subgraph of a control-flow node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name in the source file.
    pub name: String,
    /// Inputs, in the order of the interface. A subgraph's captured values come last.
    pub inputs: Vec<ValueId>,
    /// Outputs, in the order of the interface.
    pub outputs: Vec<ValueId>,
    nodes: Vec<Option<Node>>,
    values: Vec<Value>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    // --- building ---

    /// Adds an input of the interface.
    pub fn add_input(&mut self, name: impl Into<String>, ty: Option<TensorType>) -> ValueId {
        let id = self.push_value(name.into(), ty, Definition::Input);
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let ty = TensorType::of(&tensor);
        self.push_value(name.into(), Some(ty), Definition::Constant(tensor))
    }

    /// Adds a node with one new value per name in `outputs`.
    pub fn add_node(&mut self, name: impl Into<String>, op: Op, inputs: Vec<Option<ValueId>>, outputs: &[&str]) -> NodeId {
        let node = NodeId(index_u32(self.nodes.len()));
        let outputs = outputs
            .iter()
            .enumerate()
            .map(|(index, name)| self.push_value((*name).to_owned(), None, Definition::Node { node, index }))
            .collect();
        self.nodes.push(Some(Node { name: name.into(), op, inputs, outputs }));
        node
    }

    /// Adds a node whose inputs are all present and which has one output, named like the node; returns that output.
    pub fn apply(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let output = self.fresh_name(name);
        let node = self.add_node(name, op, inputs.iter().map(|v| Some(*v)).collect(), &[&output]);
        self.node(node).outputs[0]
    }

    fn push_value(&mut self, name: String, ty: Option<TensorType>, definition: Definition) -> ValueId {
        let id = ValueId(index_u32(self.values.len()));
        self.values.push(Value { name, ty, definition });
        id
    }

    /// A value name that is not taken: `stem`, or `stem` with a number.
    pub fn fresh_name(&self, stem: &str) -> String {
        let taken: BTreeSet<&str> = self.values.iter().map(|v| v.name.as_str()).filter(|n| n.starts_with(stem)).collect();
        if !taken.contains(stem) {
            return stem.to_owned();
        }
        let mut n = taken.len();
        loop {
            let name = format!("{stem}_{n}");
            if !taken.contains(name.as_str()) {
                return name;
            }
            n += 1;
        }
    }

    // --- reading ---

    /// A node that is known to be there.
    ///
    /// # Panics
    /// If the node was removed or belongs to another graph: a bug of the caller, not of any input.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.index()].as_ref().expect("the node is in the graph")
    }

    /// The same, to change it. Its outputs' definitions must stay true.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.index()].as_mut().expect("the node is in the graph")
    }

    /// Whether the node is still there.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.get(id.index()).is_some_and(Option::is_some)
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The same, to change its name or type.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// The nodes with their ids, in the order in which they were added.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(i, n)| Some((NodeId(index_u32(i)), n.as_ref()?)))
    }

    /// The ids of the nodes, in the order in which they were added.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes().map(|(id, _)| id).collect()
    }

    /// The values with their ids, those of removed nodes left out.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Value)> {
        let live = |v: &&Value| v.definition != Definition::Removed;
        self.values.iter().enumerate().map(|(i, v)| (ValueId(index_u32(i)), v)).filter(move |(_, v)| live(v))
    }

    /// Rows that a table by [`NodeId::index`] needs.
    pub fn node_capacity(&self) -> usize {
        self.nodes.len()
    }

    /// Rows that a table by [`ValueId::index`] needs.
    pub fn value_capacity(&self) -> usize {
        self.values.len()
    }

    /// The value of that name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values().find(|(_, v)| v.name == name).map(|(id, _)| id)
    }

    /// The node that computes a value, if one does.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        match self.value(value).definition {
            Definition::Node { node, .. } => Some(node),
            Definition::Input | Definition::Constant(_) | Definition::Removed => None,
        }
    }

    /// The tensor of a constant.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        match &self.value(value).definition {
            Definition::Constant(tensor) => Some(tensor),
            Definition::Input | Definition::Node { .. } | Definition::Removed => None,
        }
    }

    /// The tensor of a node's input, if that input is there and a constant.
    pub fn constant_input(&self, node: &Node, index: usize) -> Option<&Tensor> {
        self.constant(node.input(index)?)
    }

    /// Element type of a value, if known.
    pub fn dtype(&self, value: ValueId) -> Option<DType> {
        self.value(value).ty.as_ref().map(|t| t.dtype)
    }

    /// Every use of every value, by [`ValueId::index`]; uses as graph output are not among them.
    pub fn uses(&self) -> Vec<Vec<Use>> {
        let mut uses = vec![Vec::new(); self.values.len()];
        for (node, n) in self.nodes() {
            for (index, value) in n.inputs.iter().enumerate() {
                if let Some(value) = value {
                    uses[value.index()].push(Use { node, index });
                }
            }
        }
        uses
    }

    /// Whether the value is an output of the interface.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.outputs.contains(&value)
    }

    // --- changing ---

    /// Makes every user of `old`, graph outputs included, use `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for node in self.nodes.iter_mut().flatten() {
            for input in node.inputs.iter_mut().flatten() {
                if *input == old {
                    *input = new;
                }
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Turns a value into a constant of the same name; the node that computed it keeps a nameless output instead.
    pub fn make_constant(&mut self, value: ValueId, tensor: Tensor) {
        self.detach(value);
        let v = &mut self.values[value.index()];
        v.ty = Some(TensorType::of(&tensor));
        v.definition = Definition::Constant(tensor);
    }

    /// Makes `value` the output at `index` of `node`, in place of the one that is there. Its former node, if any,
    /// keeps a nameless output instead.
    pub fn redefine(&mut self, value: ValueId, node: NodeId, index: usize) {
        self.detach(value);
        let former = self.node(node).outputs[index];
        self.values[former.index()].definition = Definition::Removed;
        self.node_mut(node).outputs[index] = value;
        self.values[value.index()].definition = Definition::Node { node, index };
    }

    fn detach(&mut self, value: ValueId) {
        if let Definition::Node { node, index } = self.value(value).definition {
            let placeholder = self.push_value(String::new(), None, Definition::Node { node, index });
            self.node_mut(node).outputs[index] = placeholder;
        }
    }

    /// Takes a node out; its outputs, which nothing may use any more, become [`Definition::Removed`].
    pub fn remove_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes[id.index()].take() {
            for output in node.outputs {
                self.values[output.index()].definition = Definition::Removed;
            }
        }
    }

    /// Removes nodes that no output depends on, and forgets constants that nothing uses. Returns the removed nodes.
    pub fn remove_dead(&mut self) -> Vec<Node> {
        let mut live_nodes = BTreeSet::new();
        let mut live_values: BTreeSet<ValueId> = self.inputs.iter().copied().collect();
        let mut queue: Vec<ValueId> = self.outputs.clone();
        while let Some(value) = queue.pop() {
            if !live_values.insert(value) {
                continue;
            }
            if let Some(node) = self.producer(value)
                && live_nodes.insert(node)
            {
                queue.extend(self.node(node).inputs.iter().flatten());
            }
        }
        let dead: Vec<NodeId> = self.nodes().map(|(id, _)| id).filter(|id| !live_nodes.contains(id)).collect();
        let mut removed = Vec::with_capacity(dead.len());
        for id in dead {
            removed.push(self.node(id).clone());
            self.remove_node(id);
        }
        for (i, value) in self.values.iter_mut().enumerate() {
            if matches!(value.definition, Definition::Constant(_)) && !live_values.contains(&ValueId(index_u32(i))) {
                value.definition = Definition::Removed;
            }
        }
        removed
    }

    /// The nodes in an order in which every value is computed before it is used; ties keep the order of adding.
    pub fn topological_order(&self) -> Result<Vec<NodeId>> {
        let uses = self.uses();
        let mut missing: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut ready = BTreeSet::new();
        for (id, node) in self.nodes() {
            let count = node.inputs.iter().flatten().filter(|v| self.producer(**v).is_some()).count();
            if count == 0 {
                ready.insert(id);
            }
            missing.insert(id, count);
        }
        let mut order = Vec::with_capacity(missing.len());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for output in &self.node(id).outputs {
                for u in &uses[output.index()] {
                    if let Some(count) = missing.get_mut(&u.node) {
                        *count -= 1;
                        if *count == 0 {
                            ready.insert(u.node);
                        }
                    }
                }
            }
        }
        if order.len() == missing.len() {
            return Ok(order);
        }
        let stuck = missing.iter().find(|(_, count)| **count > 0).map(|(id, _)| self.node(*id).name.clone());
        Err(Error::new(ErrorKind::Graph, format!("the graph has a cycle through node '{}'", stuck.unwrap_or_default())))
    }
}

fn index_u32(i: usize) -> u32 {
    u32::try_from(i).expect("readers bound the number of nodes and values far below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Binary, Unary};

    fn chain() -> (Graph, ValueId, ValueId, ValueId) {
        let mut g = Graph::new("chain");
        let x = g.add_input("x", Some(TensorType::fixed(DType::F32, &[2])));
        let relu = g.apply("relu", Unary::Relu.into(), &[x]);
        let sum = g.apply("sum", Binary::Add.into(), &[relu, x]);
        g.outputs.push(sum);
        (g, x, relu, sum)
    }

    #[test]
    fn order_follows_dependencies_not_insertion() {
        let (mut g, x, relu, _) = chain();
        let late = g.apply("late", Unary::Tanh.into(), &[x]);
        g.replace_uses(relu, late);
        let names: Vec<_> = g.topological_order().unwrap().into_iter().map(|n| g.node(n).name.clone()).collect();
        assert_eq!(names, ["relu", "late", "sum"]);
    }

    #[test]
    fn a_cycle_is_an_error_that_names_a_node() {
        let (mut g, _, relu, sum) = chain();
        let node = g.producer(relu).unwrap();
        g.node_mut(node).inputs[0] = Some(sum);
        assert!(g.topological_order().unwrap_err().to_string().contains("relu"));
    }

    #[test]
    fn dead_nodes_and_constants_go_and_ids_stay() {
        let (mut g, x, _, sum) = chain();
        let c = g.add_constant("c", Tensor::scalar(1.0_f32));
        let dead = g.apply("dead", Binary::Mul.into(), &[x, c]);
        let removed = g.remove_dead();
        assert_eq!(removed.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["dead"]);
        assert_eq!(g.value(dead).definition, Definition::Removed);
        assert!(g.constant(c).is_none());
        assert_eq!(g.value(sum).name, "sum");
    }

    #[test]
    fn a_folded_value_keeps_its_name_and_users() {
        let (mut g, _, relu, _) = chain();
        g.make_constant(relu, Tensor::vector(vec![1.0_f32, 2.0]));
        assert_eq!(g.remove_dead().len(), 1);
        assert_eq!(g.find_value("relu"), Some(relu));
        assert_eq!(g.uses()[relu.index()].len(), 1);
    }

    #[test]
    fn fresh_names_are_not_taken() {
        let (g, ..) = chain();
        assert_eq!(g.fresh_name("other"), "other");
        assert_ne!(g.fresh_name("relu"), "relu");
    }
}
