//! Networks made by others, where they lie beside the repository.

use std::path::PathBuf;

use super::{file, operators};
use crate::{WriteOptions, read, write};

fn folder() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("FEWBIT_SHARED").map_or(beside, PathBuf::from).join("models");
    folder.is_dir().then_some(folder)
}

#[test]
#[allow(clippy::print_stderr, reason = "says what was skipped")]
fn files_of_others_come_out_with_the_same_operators_and_no_larger() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no folder of models; set FEWBIT_SHARED to one");
        return;
    };
    let files = [
        "mobilenet_v2",
        "mlperf_tiny/ad01_fp32",
        "mlperf_tiny/ad01_int8",
        "mlperf_tiny/kws_ref_model",
        "mlperf_tiny/kws_ref_model_float32",
        "mlperf_tiny/resnet8_float",
        "mlperf_tiny/resnet8_int8",
        "mlperf_tiny/vww_96_float",
        "mlperf_tiny/vww_96_int8",
    ];
    for name in files {
        let bytes = std::fs::read(folder.join(name).with_extension("tflite")).unwrap();
        let model = read(bytes.clone().into()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = write(&model, &WriteOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (before, after) = (file(&bytes), file(&again));
        assert_eq!(operators(&before), operators(&after), "{name}");
        let versions = |f: &crate::schema::Model| -> Vec<i32> {
            f.subgraphs[0].operators.iter().map(|o| f.operator_codes[o.opcode_index as usize].version).collect()
        };
        let newer = versions(&before).into_iter().zip(versions(&after)).filter(|(before, after)| after > before).count();
        assert_eq!(newer, 0, "{name}: operators of newer versions than the converter's");
        assert!(again.len() <= bytes.len(), "{name}: {} became {}", bytes.len(), again.len());
        let mut weights: Vec<_> = before.buffers.iter().map(|b| b.data.clone()).filter(|d| d.len() > 64).collect();
        weights.retain(|w| !after.buffers.iter().any(|b| b.data == *w));
        let metadata = before.metadata.iter().flatten().count();
        assert!(weights.len() <= metadata, "{name}: {} weights are gone", weights.len());
    }
}
