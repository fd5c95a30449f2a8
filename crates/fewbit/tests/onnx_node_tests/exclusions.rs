//! What need not pass, and why.

/// Operators that are kept as they were read and written back, but not executed.
pub(crate) const NOT_EXECUTED: &[&str] = &[
    // Recurrent networks, attention and other blocks of whole networks.
    "Attention",
    "CausalConvWithState",
    "FlexAttention",
    "GRU",
    "LSTM",
    "LinearAttention",
    "RNN",
    "RotaryEmbedding",
    "SwiGLU",
    // Spatial operators that no network we know quantizes.
    "AffineGrid",
    "CenterCropPad",
    "Col2Im",
    "DeformConv",
    "GridSample",
    "ImageDecoder",
    "MaxUnpool",
    "NonMaxSuppression",
    "RoiAlign",
    // Signals.
    "BlackmanWindow",
    "DFT",
    "HammingWindow",
    "HannWindow",
    "MelWeightMatrix",
    "STFT",
    // Training.
    "Adagrad",
    "Adam",
    "Bernoulli",
    "Momentum",
    "NegativeLogLikelihoodLoss",
    "RandomUniformLike",
    "SoftmaxCrossEntropyLoss",
    // Others.
    "BitCast",
    "Compress",
    "CumProd",
    "Det",
    "Einsum",
    "EyeLike",
    "MeanVarianceNormalization",
    "OptionalGetElement",
    "OptionalHasElement",
    "ReverseSequence",
    "Scan",
    "TensorScatter",
    "Unique",
    // Classical machine learning (`ai.onnx.ml`) and text.
    "ArrayFeatureExtractor",
    "Binarizer",
    "TfIdfVectorizer",
    "TreeEnsemble",
];

/// Cases by name, in which a `*` stands for anything, and the reason why they do not pass.
pub(crate) const EXCLUDED: &[(&str, &str)] = &[
    ("*FLOAT8*", EIGHT_BIT_FLOATS),
    ("*FLOAT4*", EIGHT_BIT_FLOATS),
    ("test_*quantizelinear_e4m3fn*", EIGHT_BIT_FLOATS),
    ("test_*quantizelinear_e5m2", EIGHT_BIT_FLOATS),
    ("test_*quantizelinear_float4e2m1", EIGHT_BIT_FLOATS),
    ("test_ai_onnx_ml_label_encoder_*", STRINGS),
    ("test_equal_string*", STRINGS),
    ("test_regex_full_match_*", STRINGS),
    ("test_string_*", STRINGS),
    ("test_strnormalizer_*", STRINGS),
    ("test_identity_opt", SEQUENCES),
    ("test_identity_sequence", SEQUENCES),
    ("test_if_opt", SEQUENCES),
    ("test_if_seq", SEQUENCES),
    ("test_loop13_seq", SEQUENCES),
    ("test_loop16_seq_none", SEQUENCES),
    ("test_optional_*", SEQUENCES),
    ("test_sequence_*", SEQUENCES),
    ("test_split_to_sequence_*", SEQUENCES),
    ("test_not_*d", "the file uses opset 1, older than any that is read"),
    ("test_batchnorm_*_training_mode", TRAINING),
    ("test_training_dropout*", TRAINING),
    ("test_affine_grid_*_expanded", "the type that CastLike casts to is not known before the graph runs"),
    ("test_resize_downsample_scales_*_align_corners", "expects a fractional length of the result, unlike ONNX's text and ONNX Runtime"),
    ("test_spacetodepth_crd_mode_example", "SpaceToDepth has only the order of channels that opset 27 and older know"),
];

const EIGHT_BIT_FLOATS: &str = "there are no floats of 8 or 4 bits";
const STRINGS: &str = "there are no strings";
const SEQUENCES: &str = "there are no sequences and no optional values";
const TRAINING: &str = "a graph runs as at inference; training modes are kept as they were read";
