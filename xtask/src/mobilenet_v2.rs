//! MobileNetV2 1.0 for ImageNet, built from the weights of a PyTorch state dict.
//!
//! The structure is that of the paper (Sandler et al., 2018, table 2) with the parameter names of torchvision.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fewbit_ir::op::{BatchNormalization, Clamp, Conv, Flatten, Gemm, GlobalPool, Padding, PoolKind, Unary, Window};
use fewbit_ir::{Dim, Graph, Layout, Model, Op, TensorType, ValueId, op::Binary};
use fewbit_tensor::{DType, Tensor};

/// Expansion, output channels, repetitions, stride of the first.
const BLOCKS: &[(usize, usize, usize, usize)] =
    &[(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
/// Channels after the first layer.
const STEM: usize = 32;
/// PyTorch's default.
const EPSILON: f32 = 1e-5;

struct Builder<'a> {
    graph: Graph,
    weights: &'a BTreeMap<String, Tensor>,
}

/// The network with its batch normalizations unfolded, channels first, batch dynamic.
pub(crate) fn build(weights: &BTreeMap<String, Tensor>) -> Result<Model> {
    let mut b = Builder { graph: Graph::new("mobilenet_v2"), weights };
    let dims = vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Known(224), Dim::Known(224)];
    let input = b.graph.add_input("input", Some(TensorType { dtype: DType::F32, dims: Some(dims) }));
    let mut x = b.conv_norm(input, "features.0.0", "features.0.1", 2, 1, true)?;
    let mut channels = STEM;
    let mut index = 1;
    for &(expansion, out, repetitions, first_stride) in BLOCKS {
        for repetition in 0..repetitions {
            let stride = if repetition == 0 { first_stride } else { 1 };
            x = b.inverted_residual(x, index, channels, out, expansion, stride)?;
            channels = out;
            index += 1;
        }
    }
    x = b.conv_norm(x, &format!("features.{index}.0"), &format!("features.{index}.1"), 1, 1, true)?;
    let pool = GlobalPool { kind: PoolKind::Average { count_include_pad: false }, layout: Layout::ChannelsFirst };
    x = b.graph.apply("pool", pool.into(), &[x]);
    x = b.graph.apply("flatten", Flatten { axis: 1 }.into(), &[x]);
    let (weight, bias) = (b.weight("classifier.1.weight")?, b.weight("classifier.1.bias")?);
    x = b.graph.apply("logits", Gemm { trans_b: true, ..Gemm::default() }.into(), &[x, weight, bias]);
    b.graph.outputs.push(x);
    Ok(Model { graph: b.graph, ..Model::default() })
}

impl Builder<'_> {
    fn weight(&mut self, name: &str) -> Result<ValueId> {
        let tensor = self.weights.get(name).with_context(|| format!("the state dict has no '{name}'"))?;
        Ok(self.graph.add_constant(name, tensor.clone()))
    }

    fn conv_norm(&mut self, x: ValueId, conv: &str, norm: &str, stride: usize, groups: usize, bounded: bool) -> Result<ValueId> {
        let weight = self.weight(&format!("{conv}.weight"))?;
        let kernel = self.graph.constant(weight).map_or(1, |w| w.shape().last().copied().unwrap_or(1));
        let pad = vec![kernel / 2; 2];
        let padding = Padding::Explicit { begin: pad.clone(), end: pad };
        let window = Window { strides: vec![stride; 2], dilations: vec![1; 2], padding };
        let op = Conv { window, groups, layout: Layout::ChannelsFirst, activation: Clamp::NONE };
        let x = self.graph.apply(conv, op.into(), &[x, weight]);
        let mut inputs = vec![x];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{norm}.{part}"))?);
        }
        let x = self.graph.apply(norm, BatchNormalization { epsilon: EPSILON, axis: 1 }.into(), &inputs);
        Ok(if bounded { self.graph.apply(&format!("{norm}.relu6"), Op::from(Unary::Clamp(Clamp::RELU6)), &[x]) } else { x })
    }

    fn inverted_residual(
        &mut self,
        input: ValueId,
        index: usize,
        channels: usize,
        out: usize,
        expansion: usize,
        stride: usize,
    ) -> Result<ValueId> {
        let name = format!("features.{index}.conv");
        let hidden = channels * expansion;
        let mut x = input;
        let mut part = 0;
        if expansion != 1 {
            x = self.conv_norm(x, &format!("{name}.0.0"), &format!("{name}.0.1"), 1, 1, true)?;
            part = 1;
        }
        x = self.conv_norm(x, &format!("{name}.{part}.0"), &format!("{name}.{part}.1"), stride, hidden, true)?;
        x = self.conv_norm(x, &format!("{name}.{}", part + 1), &format!("{name}.{}", part + 2), 1, 1, false)?;
        Ok(if stride == 1 && channels == out {
            self.graph.apply(&format!("features.{index}.add"), Binary::Add.into(), &[input, x])
        } else {
            x
        })
    }
}
