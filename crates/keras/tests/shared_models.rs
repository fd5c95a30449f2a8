//! Large models, where their folder is there, against what Keras computed (see `make_fixtures.py --shared`).

mod support;

use support::{Records, compare, fixture, shared};

#[test]
fn large_models_compute_what_keras_computes() {
    let records = Records::read(fixture("shared.npz"));
    for (file, parameters) in [
        ("models/fashion_dense.keras", 79_510),
        ("models/mobilenet_v2.keras", 3_538_984),
        ("models/mlperf_tiny/resnet8.h5", 78_666),
        ("models/mlperf_tiny/vww_96.h5", 221_794),
        ("models/mlperf_tiny/ad01.h5", 269_992),
    ] {
        let Some(path) = shared(file) else { return };
        let model = fewbit_keras::read(std::fs::read(&path).unwrap().into()).unwrap();
        let graph = &model.graph;
        let constants = graph.values().filter_map(|(id, _)| graph.constant(id)).filter(|t| t.dtype().is_float());
        assert_eq!(constants.map(fewbit_tensor::Tensor::len).sum::<usize>(), parameters, "{file}");

        let name = path.file_stem().and_then(|n| n.to_str()).unwrap();
        let outputs = fewbit_runtime::interpret(graph, &records.inputs(name)).unwrap();
        compare(&outputs[0], &records.outputs(name)[0], 1e-5).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}
