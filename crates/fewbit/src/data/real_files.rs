//! Tests on real images and archives: every sample, bit for bit as numpy and Pillow make it.
//!
//! The files lie in the folder that `FEWBIT_SHARED` names, or in `shared` beside the repository.

use std::path::PathBuf;

use fewbit_tensor::DType;

use super::{DataArg, DataOptions, DataSource, InputSpec, Preprocess};

fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let folder = std::env::var_os("FEWBIT_SHARED").map_or(beside, PathBuf::from).join("data");
    folder.is_dir().then_some(folder)
}

#[test]
#[allow(clippy::print_stderr, reason = "says that it did not run")]
fn samples_are_those_of_numpy_bit_for_bit() {
    let Some(shared) = shared() else {
        eprintln!("skipped: no folder of real data; set FEWBIT_SHARED");
        return;
    };
    let imagenet = Preprocess::from_toml("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]").unwrap();
    // Path, dimensions (0 is free), type, samples, sum of labels, and the sum of every 32-bit word w[i] * (2 i + 1).
    for (path, dims, dtype, count, labels, sum) in [
        ("calibration", &[0, 3, 224, 224][..], DType::F32, 100, None, 0x5e5f_a22a_c035_1747),
        ("calibration", &[0, 224, 224, 3], DType::F32, 100, None, 0xc374_ddcc_72b6_a643),
        ("labelled", &[0, 3, 224, 224], DType::F32, 20, Some(10_126), 0x5af8_af05_1f56_5178),
        ("inputs/cifar10_validation.npz", &[0, 32, 32, 3], DType::F32, 2_000, Some(9_091), 0x5363_ed60_fab0_0000),
        ("inputs/magika_validation.npz", &[0, 2_048], DType::I32, 150, None, 0x0635_4bf7_6907),
        ("inputs/ppocr_cls_calibration.npz", &[0, 3, 48, 192], DType::F32, 48, None, 0xdde1_682e_1876_6000),
        ("inputs/ppocr_det_calibration.npz", &[0, 3, 0, 0], DType::F32, 10, None, 0x407f_6e28_1dc1_8000),
        ("inputs/ppocr_rec_validation.npz", &[0, 3, 48, 0], DType::F32, 96, None, 0x7c1a_4bcf_bff7_6000_u64),
    ] {
        let input = InputSpec::new("input", dtype, dims.iter().map(|&d| (d > 0).then_some(d)).collect::<Vec<_>>());
        let options = DataOptions { preprocess: imagenet.clone(), ..DataOptions::default() };
        let source = DataSource::open(&[DataArg::new(shared.join(path))], &[input], &options).unwrap();
        assert_eq!(source.len(), count, "{path}");
        let (mut got, mut odd, mut labelled) = (0_u64, 1_u64, 0);
        for i in 0..count {
            let sample = source.sample(i).unwrap();
            for word in sample.inputs[0].1.bytes().as_chunks::<4>().0 {
                got = got.wrapping_add(u64::from(u32::from_le_bytes(*word)).wrapping_mul(odd));
                odd += 2;
            }
            labelled += sample.label.unwrap_or(0);
        }
        assert_eq!(source.has_labels().then_some(labelled), labels, "{path}");
        assert_eq!(got, sum, "{path} {dims:?}");
    }
}
