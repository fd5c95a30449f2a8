//! No operator panics, whatever tensors it is given: random types, shapes and values, the same at every run.
//!
//! Most calls end in an error. What is tested is that they end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fewbit_ir::op::{
    ArgReduce, Arithmetic, BatchNormalization, Binary, Cast, Clamp, Concat, Conv, ConvTranspose, CoordinateMode, CumSum, DepthToSpace,
    DequantizeLinear, Flatten, Gather, GatherNd, Gemm, GlobalPool, GroupNormalization, InstanceNormalization, KeepAspect,
    LayerNormalization, LpNormalization, Lrn, MatMul, NearestMode, OneHot, Pad, PadMode, Padding, Pool, PoolKind, QuantizeLinear, Reduce,
    ReduceKind, Reshape, Resize, ResizeMode, RmsNormalization, Scatter, ScatterNd, ScatterReduction, Shape, Softmax, SpaceToDepth, Split,
    TopK, Transpose, Trilu, Unary, Variadic, Window,
};
use fewbit_ir::{Layout, Op};
use fewbit_runtime::evaluate;
use fewbit_tensor::{DType, Tensor};

/// How often each operator is tried.
const TRIES: usize = 2_000;

/// A small generator (xorshift): the test needs variety, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn axis(&mut self) -> i64 {
        self.pick(&[0, 0, 0, 1, -1, 2, -2, 3, 9, i64::MIN, i64::MAX])
    }

    fn size(&mut self) -> usize {
        self.pick(&[1, 1, 1, 2, 2, 3, 4, 0, 5, usize::MAX])
    }

    fn float(&mut self) -> f32 {
        self.pick(&[0.0, 1.0, 0.5, -1.0, 2.0, 1e-30, 1e30, f32::NAN, f32::INFINITY])
    }

    fn list(&mut self, n: usize) -> Vec<usize> {
        (0..n).map(|_| if self.below(20) == 0 { self.size() } else { self.below(3) + 1 }).collect()
    }

    fn shape(&mut self) -> Vec<usize> {
        match self.below(20) {
            0 => vec![usize::MAX, 0, 3],
            1 => vec![1 << 40, 1 << 40, 0],
            _ => (0..self.below(5)).map(|_| self.pick(&[1, 2, 3, 4, 1, 2, 3, 4, 6, 0])).collect(),
        }
    }

    fn tensor(&mut self, dtype: DType, shape: Vec<usize>) -> Tensor {
        let len = fewbit_tensor::element_count(&shape).unwrap();
        if dtype.is_float() {
            let values: Vec<f32> = (0..len).map(|_| if self.below(8) == 0 { self.float() } else { self.below(9) as f32 - 2.0 }).collect();
            return Tensor::from_floats(dtype, shape, &values).unwrap();
        }
        let (lo, hi) = dtype.integer_range().unwrap_or(if dtype == DType::Bool { (0, 1) } else { (0, i64::MAX) });
        // Sizes between small and absurd would only make large tensors.
        let values: Vec<i64> = (0..len)
            .map(|_| match self.below(12) {
                0 => {
                    if dtype.bits() == 64 {
                        lo
                    } else {
                        lo.max(-200)
                    }
                }
                1 => {
                    if dtype.bits() == 64 {
                        hi
                    } else {
                        hi.min(200)
                    }
                }
                _ => (self.below(5) as i64 - 2).clamp(lo, hi),
            })
            .collect();
        Tensor::from_integers(dtype, shape, &values).unwrap()
    }

    /// Often one type for all and similar shapes, so that calls get past the first check.
    fn inputs(&mut self) -> Vec<Option<Tensor>> {
        let dtype = if self.flag() { DType::F32 } else { self.pick(&DType::ALL) };
        let alike = self.below(4) == 0;
        let shape = if alike { vec![2; self.below(5)] } else { self.shape() };
        let rest = if self.flag() { shape.clone() } else { vec![2] };
        (0..=self.below(8))
            .map(|i| {
                if alike {
                    let dtype = if i == 1 { self.pick(&[dtype, DType::I64]) } else { dtype };
                    return Some(self.tensor(dtype, if i == 0 { shape.clone() } else { rest.clone() }));
                }
                if self.below(15) == 0 {
                    return None;
                }
                let dtype = if i > 0 && self.below(2) == 0 {
                    self.pick(&[DType::I64, DType::F32, DType::Bool, DType::I8, DType::U8])
                } else {
                    dtype
                };
                let shape = match self.below(4) {
                    0 => shape.clone(),
                    1 => vec![self.below(5)],
                    2 => vec![],
                    _ => self.shape(),
                };
                Some(self.tensor(dtype, shape))
            })
            .collect()
    }

    fn window(&mut self, n: usize) -> Window {
        let padding = match self.below(4) {
            0 => Padding::Explicit { begin: self.list(n), end: self.list(n) },
            1 => Padding::SameUpper,
            2 => Padding::SameLower,
            _ => Padding::Valid,
        };
        Window { strides: self.list(n), dilations: self.list(n), padding }
    }

    /// Inputs that fit a convolution or pool more often than chance would have it.
    fn spatial(&mut self, n: usize) -> Vec<Option<Tensor>> {
        let mut inputs = self.inputs();
        let dtype = self.pick(&[DType::F32, DType::F32, DType::F64, DType::I8, DType::U8, DType::F16]);
        let channels = self.below(4) + 1;
        let x = [vec![self.below(3), channels], self.list(n).iter().map(|s| s.saturating_add(3) % 9).collect()].concat();
        let w = [vec![self.below(4), channels], self.list(n).iter().map(|s| s % 5).collect()].concat();
        inputs[0] = Some(self.tensor(dtype, x));
        if inputs.len() > 1 {
            inputs[1] = Some(self.tensor(dtype, w));
        }
        inputs.truncate(3);
        inputs
    }
}

/// Every operator of this position in the list, with random attributes and inputs; `None` past the end.
fn call(which: usize, r: &mut Random) -> Option<(Op, Vec<Option<Tensor>>)> {
    let layout = r.pick(&[Layout::ChannelsFirst, Layout::ChannelsLast]);
    let n = r.below(4);
    let activation = r.pick(&[Clamp::NONE, Clamp::RELU6]);
    let (axis, epsilon) = (r.axis(), r.float());
    let norm = PoolKind::Lp { p: r.axis() };
    let kind = r.pick(&[PoolKind::Max { column_major_indices: true }, PoolKind::Average { count_include_pad: true }, norm]);
    let reduction =
        r.pick(&[ScatterReduction::None, ScatterReduction::Add, ScatterReduction::Mul, ScatterReduction::Max, ScatterReduction::Min]);
    let op = match which {
        0 => Op::Unary(r.pick(&[
            Unary::Abs,
            Unary::Neg,
            Unary::Sign,
            Unary::Not,
            Unary::BitwiseNot,
            Unary::IsNan,
            Unary::Gelu { tanh: false },
            Unary::Clamp(Clamp { min: f32::NAN, max: 1.0 }),
            Unary::Square,
        ])),
        1 => Op::Binary(Arithmetic {
            kind: r.pick(&[
                Binary::Add,
                Binary::Div,
                Binary::Pow,
                Binary::Mod { fmod: true },
                Binary::Mod { fmod: false },
                Binary::Equal,
                Binary::Less,
                Binary::And,
                Binary::BitwiseXor,
                Binary::BitShift { left: true },
                Binary::BitShift { left: false },
                Binary::SquaredDifference,
            ]),
            activation,
        }),
        2 => Op::Variadic(r.pick(&[Variadic::Sum, Variadic::Mean, Variadic::Max])),
        3 => Op::Clip,
        4 => Op::PRelu,
        5 => Op::Where,
        6 => Op::Cast(Cast { to: r.pick(&DType::ALL), saturate: r.flag() }),
        7 => Op::Conv(Conv { window: r.window(n), groups: r.size(), layout, activation }),
        8 => Op::ConvTranspose(ConvTranspose {
            window: r.window(n),
            output_padding: r.list(n),
            output_shape: r.flag().then(|| r.list(n)),
            groups: r.size(),
            layout,
            activation,
        }),
        9 => Op::Gemm(Gemm { alpha: r.float(), beta: r.float(), trans_a: r.flag(), trans_b: r.flag(), activation }),
        10 => Op::MatMul(MatMul { activation }),
        11 => Op::Pool(Pool { kind, kernel: r.list(n), window: r.window(n), ceil_mode: r.flag(), layout }),
        12 => Op::GlobalPool(GlobalPool { kind, layout }),
        13 => Op::BatchNormalization(BatchNormalization { epsilon, axis }),
        14 => Op::LayerNormalization(LayerNormalization { axis, epsilon }),
        15 => Op::InstanceNormalization(InstanceNormalization { epsilon, layout }),
        16 => Op::GroupNormalization(GroupNormalization { num_groups: r.size(), epsilon, layout }),
        17 => Op::RmsNormalization(RmsNormalization { axis, epsilon }),
        18 => Op::LpNormalization(LpNormalization { axis, p: r.axis() }),
        19 => Op::Lrn(Lrn { alpha: r.float(), beta: r.float(), bias: r.float(), size: r.size(), layout }),
        20 => Op::Softmax(Softmax { axis }),
        21 => Op::LogSoftmax(Softmax { axis }),
        22 => Op::Hardmax(Softmax { axis }),
        23 => Op::Reduce(Reduce {
            kind: r.pick(&[ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Prod, ReduceKind::L2, ReduceKind::LogSumExp]),
            keep_dims: r.flag(),
            noop_with_empty_axes: r.flag(),
        }),
        24 => Op::ArgReduce(ArgReduce { max: r.flag(), axis, keep_dims: r.flag(), select_last: r.flag() }),
        25 => Op::CumSum(CumSum { exclusive: r.flag(), reverse: r.flag() }),
        26 => Op::TopK(TopK { axis, largest: r.flag(), sorted: r.flag() }),
        27 => Op::Dropout,
        28 => Op::Reshape(Reshape { allow_zero: r.flag() }),
        29 => Op::Flatten(Flatten { axis }),
        30 => Op::Transpose(Transpose { perm: r.flag().then(|| (0..r.below(5)).map(|_| r.below(4)).collect()) }),
        31 => Op::Squeeze,
        32 => Op::Unsqueeze,
        33 => Op::Concat(Concat { axis }),
        34 => Op::Split(Split { axis }),
        35 => Op::Slice,
        36 => Op::Gather(Gather { axis }),
        37 => Op::GatherElements(Gather { axis }),
        38 => Op::GatherNd(GatherNd { batch_dims: r.pick(&[0, 0, 1, 2, usize::MAX]) }),
        39 => Op::ScatterElements(Scatter { axis, reduction }),
        40 => Op::ScatterNd(ScatterNd { reduction }),
        41 => Op::Pad(Pad { mode: r.pick(&[PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap]) }),
        42 => Op::Resize(Resize {
            mode: r.pick(&[ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic]),
            coordinates: r.pick(&[
                CoordinateMode::HalfPixel,
                CoordinateMode::HalfPixelSymmetric,
                CoordinateMode::AlignCorners,
                CoordinateMode::Asymmetric,
                CoordinateMode::TfCropAndResize,
            ]),
            nearest: r.pick(&[NearestMode::Floor, NearestMode::Ceil, NearestMode::RoundPreferCeil]),
            exclude_outside: r.flag(),
            antialias: r.flag(),
            axes: r.flag().then(|| vec![axis]),
            aspect: r.pick(&[KeepAspect::Stretch, KeepAspect::NotLarger, KeepAspect::NotSmaller]),
            ..Resize::default()
        }),
        43 => Op::Expand,
        44 => Op::Tile,
        45 => Op::Shape(Shape { start: axis, end: r.flag().then(|| r.axis()) }),
        46 => Op::Size,
        47 => Op::ConstantOfShape,
        48 => Op::Range,
        49 => Op::OneHot(OneHot { axis }),
        50 => Op::NonZero,
        51 => Op::DepthToSpace(DepthToSpace { block_size: r.size(), column_row_depth: r.flag(), layout }),
        52 => Op::SpaceToDepth(SpaceToDepth { block_size: r.size(), layout }),
        53 => Op::Trilu(Trilu { upper: r.flag() }),
        54 => Op::QuantizeLinear(QuantizeLinear { axis, block_size: r.pick(&[0, 0, 1, 2, usize::MAX]), to: r.pick(&DType::ALL) }),
        55 => Op::DequantizeLinear(DequantizeLinear { axis, block_size: r.pick(&[0, 0, 1, 2, usize::MAX]) }),
        56 => Op::DynamicQuantizeLinear,
        57 => Op::ConvInteger(Conv { window: r.window(n), groups: 1, layout, activation }),
        58 => Op::MatMulInteger,
        _ => return None,
    };
    let slides = matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) | Op::GlobalPool(_) | Op::ConvInteger(_));
    let inputs = match op {
        _ if slides && r.below(4) > 0 => r.spatial(n),
        _ => r.inputs(),
    };
    Some((op, inputs))
}

#[test]
fn no_operator_panics() {
    let mut r = Random(0x9E37_79B9_7F4A_7C15);
    for which in 0.. {
        let mut good = 0;
        for _ in 0..TRIES {
            let Some((op, inputs)) = call(which, &mut r) else { return };
            let outputs = r.pick(&[1, 1, 1, 2, 3]);
            let result = catch_unwind(AssertUnwindSafe(|| evaluate(&op, &inputs, outputs)));
            let result = result.unwrap_or_else(|_| panic!("{op:?} on {inputs:?} with {outputs} outputs"));
            if let Ok(tensors) = result {
                good += 1;
                assert_eq!(tensors.len(), outputs, "{op:?} {inputs:?}");
            }
        }
        assert!(good > 0, "operator {which} never got as far as a result");
    }
}
