//! Bytes that nobody vouches for: an error or a model, never a panic, and never more than the file can justify.

use bytes::Bytes;

use super::{FLOAT, QUANTIZED, bytes_of, cases, graph};
use crate::flat::Builder;
use crate::{ErrorKind, read, schema};

/// Files small enough that every byte of them can be tried.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let all = cases(FLOAT).into_iter().chain(cases(QUANTIZED));
    all.map(|c| (c.name, bytes_of(&c.graph))).filter(|(_, b)| b.len() < 6000).collect()
}

#[test]
fn truncated_files_are_errors_or_models() {
    let files = files();
    assert!(files.len() > 20);
    for (name, bytes) in files {
        let bytes = Bytes::from(bytes);
        let mut errors = 0;
        for len in (0..bytes.len()).step_by(3) {
            errors += usize::from(read(bytes.slice(..len)).is_err());
        }
        // Nearly all of the file is needed; the very end may be padding.
        assert!(errors * 3 + 64 > bytes.len(), "{name}: {errors} errors of {} bytes", bytes.len());
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    for (_, bytes) in files() {
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] ^= flip;
                if let Ok(model) = read(broken.into()) {
                    // What is read is a graph that can be walked.
                    assert!(model.graph.nodes().all(|(_, n)| n.inputs.iter().flatten().all(|v| v.index() < model.graph.value_capacity())));
                }
            }
        }
    }
}

fn edited(edit: impl Fn(&mut schema::Model)) -> String {
    let text = "input x: f32[1,4,4,2]\nconst w: f32[3,2,1,1] = random 1\ny = Conv {\"window\":{\"strides\":[1,1],\"dilations\":[1,1]},\"groups\":1,\"layout\":\"ChannelsLast\"} (x, w)\noutput y";
    let mut file = super::file(&bytes_of(&graph("conv", text)));
    edit(&mut file);
    match read(Builder::file(&file).unwrap().into()) {
        Ok(_) => "no error".to_owned(),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Unsupported | ErrorKind::Limit), "{error}");
            error.to_string()
        }
    }
}

type Edit = fn(&mut schema::Model);

#[test]
fn well_formed_nonsense_is_named() {
    fn graph(f: &mut schema::Model) -> &mut schema::SubGraph {
        &mut f.subgraphs[0]
    }
    fn quantize(f: &mut schema::Model, scale: Vec<f32>, zero_point: Vec<i64>, axis: i32) {
        let tensor = &mut graph(f).tensors[1];
        tensor.dtype = schema::TensorType::INT8;
        tensor.quantization = Some(schema::Quantization {
            scale: Some(scale),
            zero_point: Some(zero_point),
            quantized_dimension: axis,
            ..schema::Quantization::default()
        });
    }
    let cases: [(Edit, &str); 16] = [
        (|_| {}, "no error"),
        (|f| f.version = 2, "schema version 2"),
        (|f| f.subgraphs.clear(), "no graph"),
        (|f| graph(f).inputs[0] = 99, "tensor 99 does not exist"),
        (|f| graph(f).inputs[0] = -1, "tensor -1 does not exist"),
        (|f| graph(f).operators[0].inputs[0] = 42, "tensor 42 does not exist"),
        (|f| graph(f).operators[0].opcode_index = 7, "has code 7"),
        (|f| graph(f).operators[0].outputs = vec![0], "computed although it is there already"),
        (|f| graph(f).tensors[1].buffer = 1000, "buffer 1000 does not exist"),
        (|f| graph(f).tensors[1].shape = vec![3, 1, 1, 1000], "groups of 1000"),
        (|f| graph(f).tensors[1].shape = vec![-3, 1, 1, 2], "dimension -3 is negative"),
        (|f| graph(f).tensors[0].shape = vec![1; 40], "40 dimensions"),
        (|f| quantize(f, vec![0.0], vec![0], 0), "scale 0 is not a positive number"),
        (|f| quantize(f, vec![1.0], vec![400], 0), "zero point 400"),
        (|f| quantize(f, vec![1.0, 2.0], vec![0, 0], 0), "2 scales along axis 0"),
        (
            |f| f.buffers.iter_mut().for_each(|b| *b = schema::Buffer { offset: u64::MAX, size: 2, ..schema::Buffer::default() }),
            "beyond the end",
        ),
    ];
    for (i, (edit, says)) in cases.into_iter().enumerate() {
        let error = edited(edit);
        assert!(error.contains(says), "case {i}: {error}, expected {says}");
    }
}

#[test]
fn shared_vectors_do_not_unfold_without_bound() {
    // Each of many tensors refers to the one long name.
    let mut file = super::file(&bytes_of(&graph("relu", "input x: f32[2]\ny = Unary \"Relu\" (x)\noutput y")));
    let mut tensor = file.subgraphs[0].tensors[0].clone();
    tensor.shape = vec![1; 16_000];
    file.subgraphs[0].tensors = vec![tensor; 2_000];
    let error = read(Builder::file(&file).unwrap().into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}
