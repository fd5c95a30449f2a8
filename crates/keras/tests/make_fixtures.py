"""Builds the models under fixtures/ with Keras and records what they compute.

    python make_fixtures.py             all cases
    python make_fixtures.py CASE...     these cases only, keeping the others' records
    python make_fixtures.py --shared FOLDER   records of the large models in that folder, in fixtures/shared.npz
    python make_fixtures.py --applications FOLDER   models of keras.applications and their records, in that folder

Needs tensorflow with Keras 3, and tf_keras for the cases of Keras 2. Archives are deflated and HDF5 files gzipped to keep
them small (Keras itself stores archives; `archive` is such a one). Inputs are not recorded but made from a generator that the tests have too;
integers are recorded. The records are in fixtures/expected.npz: `<case>/shape<i>` or `<case>/input<i>` for inputs, in
the order of the model's inputs, `<case>/output<i>` for outputs.
"""

import gzip
import os
import pathlib
import sys
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras import layers, ops

HERE = pathlib.Path(__file__).parent / "fixtures"
CASES = {}


def case(extension="keras", ints=None):
    """Registers a function that returns a model; `ints` is the bound of integer inputs.

    Extensions: `keras` (deflated), `stored.keras` (as Keras writes it), `h5.gz`.
    """

    def register(function):
        CASES[function.__name__] = (function, extension, ints)
        return function

    return register


def pseudo_random(seed, shape):
    """The generator of the tests: the high bits of Knuth's MMIX linear congruential generator, in [-1, 1)."""
    out = np.empty(int(np.prod(shape)), np.float32)
    state = seed
    for i in range(out.size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = np.float32(state >> 40) / np.float32(1 << 23) - np.float32(1)
    return out.reshape(shape)


def randomize(model, seed=7):
    """Weights that make a difference; variances and scales positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.name
        values = rng.normal(0, 0.5, weight.shape)
        if "variance" in name or "gamma" in name or "alpha" in name:
            values = np.abs(values) + 0.5
        if "count" not in name:
            weight.assign(values.astype(np.float32))
    return model


# --- layers, one model per family ---


@case()
def activations():
    x = layers.Input((6,), name="x")
    names = (
        "linear relu relu6 hard_tanh leaky_relu sigmoid hard_sigmoid hard_silu hard_swish tanh softplus softsign swish "
        "silu gelu elu selu celu mish exponential hard_shrink soft_shrink tanh_shrink log_sigmoid squareplus softmax "
        "log_softmax"
    ).split()
    scaled = layers.Rescaling(5.0, name="scaled")(x)
    return keras.Model(x, [layers.Activation(n, name=f"a_{n}")(scaled) for n in names])


@case()
def activation_layers():
    x = layers.Input((4, 3), name="x")
    y = layers.Rescaling(4.0, name="scaled")(x)
    return keras.Model(
        x,
        [
            layers.ReLU()(y),
            layers.ReLU(max_value=2.0)(y),
            layers.ReLU(negative_slope=0.1)(y),
            layers.ReLU(negative_slope=0.1, max_value=2.0)(y),
            layers.ReLU(threshold=1.0)(y),
            layers.ReLU(threshold=1.0, max_value=2.0)(y),
            layers.ReLU(negative_slope=0.1, threshold=1.0, max_value=2.0)(y),
            layers.LeakyReLU(negative_slope=0.25)(y),
            layers.ELU(alpha=0.7)(y),
            layers.PReLU()(y),
            layers.PReLU(shared_axes=[1])(y),
            layers.Softmax()(y),
            layers.Softmax(axis=1)(y),
            layers.Dense(3, activation=layers.LeakyReLU(negative_slope=0.2))(y),
            layers.Dense(3, activation=keras.activations.hard_silu)(y),
        ],
    )


@case()
def convolutions():
    x = layers.Input((9, 8, 4), name="x")
    outputs = []
    for i, kwargs in enumerate(
        [
            dict(kernel_size=3),
            dict(kernel_size=(3, 2), strides=2, padding="same"),
            dict(kernel_size=3, strides=(2, 1), padding="same", activation="relu"),
            dict(kernel_size=(1, 1), use_bias=False, activation="relu6"),
            dict(kernel_size=3, dilation_rate=2, padding="same", activation="tanh"),
            dict(kernel_size=3, groups=2),
        ]
    ):
        outputs.append(layers.Conv2D(6, name=f"conv_{i}", **kwargs)(x))
    outputs.append(layers.DepthwiseConv2D(3, padding="same", name="depthwise_0")(x))
    outputs.append(layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, use_bias=False, activation="relu", name="depthwise_1")(x))
    outputs.append(layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2, activation="relu", name="separable")(x))
    return keras.Model(x, outputs)


@case()
def convolutions_1d():
    x = layers.Input((10, 4), name="x")
    return keras.Model(
        x,
        [
            layers.Conv1D(6, 3, name="plain")(x),
            layers.Conv1D(6, 3, strides=2, padding="same", activation="relu", name="same")(x),
            layers.Conv1D(6, 3, padding="causal", dilation_rate=2, name="causal")(x),
            layers.DepthwiseConv1D(3, padding="same", name="depthwise")(x),
            layers.SeparableConv1D(5, 3, name="separable")(x),
            layers.MaxPooling1D(3, strides=2, padding="same", name="max")(x),
            layers.AveragePooling1D(2, name="average")(x),
            layers.GlobalMaxPooling1D(name="global_max")(x),
            layers.GlobalAveragePooling1D(keepdims=True, name="global_average")(x),
            layers.ZeroPadding1D((1, 2), name="zeros")(x),
            layers.Cropping1D((1, 2), name="crop")(x),
            layers.UpSampling1D(3, name="up")(x),
        ],
    )


@case()
def transposed_convolutions():
    x = layers.Input((5, 4, 3), name="x")
    outputs = [
        layers.Conv2DTranspose(4, kernel, strides=strides, padding=padding, activation=activation, name=f"t_{i}")(x)
        for i, (kernel, strides, padding, activation) in enumerate(
            [(3, 2, "same", "relu"), (3, 2, "valid", None), (2, 2, "valid", "tanh"), (2, 3, "valid", None), (4, 2, "same", None), (3, 1, "same", None)]
        )
    ]
    return keras.Model(x, outputs)


@case()
def dense():
    x = layers.Input((12,), name="x")
    y = layers.Dense(6, activation="relu", name="hidden")(x)
    y = layers.Dense(5, use_bias=False, name="plain")(y)
    z = layers.Reshape((3, 4))(x)
    z = layers.Dense(5, activation="relu", name="matrix")(z)
    z = layers.Dense(4, use_bias=False, activation="softmax", name="matrix_plain")(z)
    w = layers.TimeDistributed(layers.Dense(3, activation="relu"), name="steps")(z)
    return keras.Model(x, [y, z, w])


@case()
def normalizations():
    x = layers.Input((4, 5, 6), name="x")
    return keras.Model(
        x,
        [
            layers.BatchNormalization(name="batch")(x),
            layers.BatchNormalization(scale=False, epsilon=0.01, name="batch_unscaled")(x),
            layers.BatchNormalization(center=False, scale=False, axis=1, name="batch_axis")(x),
            layers.LayerNormalization(name="layer")(x),
            layers.LayerNormalization(center=False, scale=False, name="layer_plain")(x),
            layers.LayerNormalization(axis=[2, 3], epsilon=0.01, name="layer_axes")(x),
            layers.GroupNormalization(groups=3, name="group")(x),
        ],
    )


@case()
def pools():
    x = layers.Input((7, 6, 3), name="x")
    return keras.Model(
        x,
        [
            layers.MaxPooling2D(name="max")(x),
            layers.MaxPooling2D((3, 2), strides=(2, 1), padding="same", name="max_same")(x),
            layers.AveragePooling2D(3, strides=2, padding="same", name="average_same")(x),
            layers.AveragePooling2D((2, 3), name="average")(x),
            layers.GlobalMaxPooling2D(name="global_max")(x),
            layers.GlobalAveragePooling2D(name="global_average")(x),
            layers.GlobalAveragePooling2D(keepdims=True, name="global_average_kept")(x),
        ],
    )


@case()
def paddings():
    x = layers.Input((6, 5, 2), name="x")
    return keras.Model(
        x,
        [
            layers.ZeroPadding2D(1, name="zeros")(x),
            layers.ZeroPadding2D(((0, 1), (2, 3)), name="zeros_uneven")(x),
            layers.Cropping2D((1, 2), name="crop")(x),
            layers.Cropping2D(((1, 0), (0, 2)), name="crop_uneven")(x),
            layers.UpSampling2D((2, 3), name="up")(x),
            layers.UpSampling2D(2, interpolation="bilinear", name="up_bilinear")(x),
            layers.Resizing(9, 4, name="resize")(x),
            layers.Resizing(4, 11, interpolation="nearest", name="resize_nearest")(x),
        ],
    )


@case()
def channels_first():
    x = layers.Input((3, 6, 5), name="x")
    first = dict(data_format="channels_first")
    y = layers.ZeroPadding2D(1, **first)(x)
    y = layers.BatchNormalization(axis=1)(y)
    y = layers.UpSampling2D(2, **first)(y)
    y = layers.Cropping2D(2, **first)(y)
    return keras.Model(x, [y, layers.GlobalAveragePooling2D(**first)(y), layers.Flatten(**first)(y)])


@case()
def merges():
    a, b, c = (layers.Input((4, 3), name=n) for n in "abc")
    v = layers.Input((3,), name="v")
    return keras.Model(
        [a, b, c, v],
        [
            layers.Add(name="add")([a, b]),
            layers.Add(name="add_three")([a, b, c]),
            layers.Subtract(name="subtract")([a, b]),
            layers.Multiply(name="multiply")([a, b, c]),
            layers.Multiply(name="multiply_vector")([a, v]),
            layers.Average(name="average")([a, b, c]),
            layers.Maximum(name="maximum")([a, b]),
            layers.Minimum(name="minimum")([a, b, c]),
            layers.Concatenate(name="concatenate")([a, b, c]),
            layers.Concatenate(axis=1, name="concatenate_steps")([a, b]),
            layers.Dot(axes=1, name="dot_vectors")([v, v]),
            layers.Dot(axes=2, name="dot_last")([a, b]),
            layers.Dot(axes=(1, 1), name="dot_first")([a, b]),
        ],
    )


@case()
def shapes():
    x = layers.Input((4, 3, 2), name="x")
    v = layers.Input((3,), name="v")
    return keras.Model(
        [x, v],
        [
            layers.Flatten(name="flatten")(x),
            layers.Reshape((6, 4), name="reshape")(x),
            layers.Reshape((-1, 3), name="reshape_free")(x),
            layers.Permute((3, 1, 2), name="permute")(x),
            layers.RepeatVector(4, name="repeat")(v),
        ],
    )


@case()
def training_only():
    x = y = layers.Input((4, 4, 3), name="x")
    for layer in [
        layers.RandomFlip(),
        layers.Conv2D(4, 1, name="first"),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.GaussianNoise(1.0),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
        layers.ActivityRegularization(l2=0.1),
        layers.Identity(),
        layers.Conv2D(2, 1, name="last"),
    ]:
        y = layer(y)
    return keras.Model(x, y)


@case()
def preprocessing():
    x = layers.Input((4, 3), name="x")
    adapted = layers.Normalization(name="adapted")
    adapted.adapt(np.random.default_rng(1).normal(3, 2, (50, 4, 3)).astype("float32"))
    return keras.Model(
        x,
        [
            layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(x),
            layers.Rescaling([1.0, 2.0, 3.0], name="rescale_channels")(x),
            adapted(x),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], name="given")(x),
            layers.Normalization(mean=1.0, variance=4.0, axis=None, name="scalar")(x),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], invert=True, name="inverted")(x),
        ],
    )


@case(ints=7)
def embedding():
    x = layers.Input((5,), dtype="int32", name="tokens")
    y = layers.Embedding(7, 4)(x)
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(y)))


@case()
def functions():
    x = layers.Input((4, 4, 6), name="x")
    y = layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    y = x * y - ops.mean(y, axis=[1, 2], keepdims=True)
    y = 2.0 - y / 3.0
    y = ops.maximum(ops.gelu(y), ops.gelu(y, approximate=False))
    y = ops.concatenate([y, ops.relu(-x)], axis=-1)
    y = ops.reshape(y, (-1, 16, 12))
    y = ops.transpose(y, (0, 2, 1))
    y = ops.squeeze(ops.expand_dims(y, 1), 1)
    return keras.Model(x, [ops.softmax(y, axis=1), ops.max(y, axis=-1), ops.sum(y, axis=(1, 2))])


# --- structure ---


@case()
def sequential():
    return keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )


@case("stored.keras")
def archive():
    return sequential()


def nested_model(layers, keras):
    """A shared layer, models in models, models applied twice, several inputs and outputs."""

    def block(name):
        x = layers.Input((4,), name=f"{name}_in")
        return keras.Model(x, layers.Dense(4, name="d")(layers.BatchNormalization(name="n")(x)), name=name)

    pair_in = [layers.Input((4,), name="p"), layers.Input((4,), name="q")]
    pair_sum = block("deep")(layers.Add(name="s")(pair_in))
    pair = keras.Model(pair_in, [pair_sum, layers.Dense(2, name="half")(pair_sum)], name="pair")
    inner = block("inner")
    chain = keras.Sequential([layers.Input((4,)), layers.Dense(4, name="c", activation="tanh"), layers.BatchNormalization(name="cn")], name="chain")
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(4, activation="relu", name="shared")
    u, v = shared(a), shared(shared(b))
    u2, h = pair([u, v])
    u3, h2 = pair([u2, chain(chain(v))])
    return keras.Model([a, b], [h2, layers.Concatenate(name="all")([u3, h, inner(u)]), chain(u), inner(v)], name="nested")


@case()
def nested():
    return nested_model(layers, keras)


@case()
def sequential_of_models():
    inner_in = layers.Input((6,), name="inner_in")
    inner = keras.Model(inner_in, layers.Dense(5)(inner_in), name="inner")
    return keras.Sequential([inner, keras.Sequential([layers.Dense(4), layers.Dense(3, activation="relu")]), layers.Dense(2)])


@case()
def named():
    a, b = layers.Input((3,), name="a"), layers.Input((3,), name="b")
    return keras.Model({"second": b, "first": a}, {"sum": layers.Add()([a, b]), "difference": layers.Subtract()([a, b])})


def half(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return sequential()
    finally:
        keras.config.set_dtype_policy("float32")


@case()
def mixed_float16():
    return half("mixed_float16")


@case()
def float16():
    return half("float16")


@case()
def bfloat16():
    return half("bfloat16")


# --- other eras ---


@case("h5.gz")
def nested_keras3():
    return nested_model(layers, keras)


@case("h5.gz")
def nested_keras2():
    import tf_keras

    return nested_model(tf_keras.layers, tf_keras)


@case("h5.gz")
def frozen_keras2():
    """Layers that are not trained are listed behind the others."""
    import tf_keras

    k = tf_keras.layers
    inner = tf_keras.Sequential(
        [k.Input((4,)), k.Dense(4, name="one", trainable=False), k.BatchNormalization(name="two"), k.Dense(4, name="three")], name="inner"
    )
    return tf_keras.Sequential([k.Input((4,)), inner, k.Dense(2, trainable=False)])


@case("h5.gz")
def sequential_keras2():
    """No input layer in the list, and what Keras 3 has changed."""
    import tf_keras

    k = tf_keras.layers
    return tf_keras.Sequential(
        [
            k.Conv2D(4, 3, input_shape=(8, 8, 2)),
            k.LeakyReLU(alpha=0.1),
            k.SeparableConv2D(3, 3, activation="hard_sigmoid"),
            k.BatchNormalization(),
            k.PReLU(shared_axes=[1, 2]),
            k.Flatten(),
            k.Dropout(0.5),
            k.Dense(3, activation="swish"),
        ]
    )


@case("h5.gz")
def functions_keras2():
    import tensorflow as tf
    import tf_keras

    k = tf_keras.layers
    x = k.Input((4, 4, 3), name="x")
    y = k.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    y = tf.math.multiply(x, y) - tf.reduce_mean(y, axis=[1, 2], keepdims=True)
    return tf_keras.Model(x, [tf.nn.relu(y), tf.concat([x, y], axis=-1)])


@case()
def nested_tf_keras():
    """The archive that Keras 2 writes."""
    import tf_keras

    return nested_model(tf_keras.layers, tf_keras)


def write(model, path, extension):
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / ("model.h5" if extension == "h5.gz" else "model.keras")
        model.save(plain)
        if extension == "h5.gz":
            path.write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
        elif extension == "stored.keras":
            path.write_bytes(plain.read_bytes())
        else:
            with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
                for name in source.namelist():
                    target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED, 9)


def record(name, model, ints, batch=2):
    arrays, inputs = {}, []
    for i, tensor in enumerate(model.inputs):
        shape = [batch if d is None else d for d in tensor.shape]
        if ints is None:
            inputs.append(pseudo_random(i + 1, shape))
            arrays[f"{name}/shape{i}"] = np.array(shape, np.int64)
        else:
            inputs.append(np.random.default_rng(i).integers(0, ints, shape).astype(np.int32))
            arrays[f"{name}/input{i}"] = inputs[-1]
    structured = inputs if len(inputs) > 1 else inputs[0]
    if isinstance(getattr(model, "_inputs_struct", None), dict):
        structured = dict(zip(sorted(model._inputs_struct), inputs))
    outputs = keras.tree.flatten(model(structured, training=False))
    for i, tensor in enumerate(outputs):
        arrays[f"{name}/output{i}"] = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
    return arrays


def record_shared(folder):
    import tf_keras

    arrays = {}
    for path in ["fashion_dense.keras", "mobilenet_v2.keras"] + [f"mlperf_tiny/{n}.h5" for n in ("resnet8", "vww_96", "ad01")]:
        # Keras 3 does not open all files of Keras 2.
        model = (tf_keras if path.endswith(".h5") else keras).models.load_model(folder / path, compile=False)
        # One sample is enough for networks of this size.
        arrays |= record(pathlib.Path(path).stem, model, None, batch=1)
    np.savez_compressed(HERE / "shared.npz", **arrays)


def make_applications(folder):
    arrays = {}
    for name, shape in [("MobileNetV2", (96, 96, 3)), ("MobileNetV3Small", (64, 64, 3)), ("EfficientNetB0", (64, 64, 3))]:
        model = randomize(getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10))
        for weight in model.weights:
            # Initial values keep activations of deep networks in range, but for the statistics.
            if weight.name in ("kernel", "depthwise_kernel"):
                weight.assign(weight * (2 / np.sqrt(np.prod(weight.shape[:-1]))))
        model.save(folder / f"{name}.keras")
        arrays |= record(name, model, None, batch=1)
    np.savez(folder / "expected.npz", **arrays)


def main():
    HERE.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["--shared"]:
        return record_shared(pathlib.Path(sys.argv[2]))
    if sys.argv[1:2] == ["--applications"]:
        return make_applications(pathlib.Path(sys.argv[2]))
    chosen = sys.argv[1:] or list(CASES)
    records = HERE / "expected.npz"
    arrays = dict(np.load(records)) if sys.argv[1:] and records.exists() else {}
    for name in chosen:
        function, extension, ints = CASES[name]
        keras.utils.clear_session()
        model = function()
        randomize(model) if name not in ("preprocessing",) else None
        write(model, HERE / f"{name}.{extension}", extension)
        arrays = {key: array for key, array in arrays.items() if not key.startswith(f"{name}/")} | record(name, model, ints)
        print(f"{name}: {(HERE / f'{name}.{extension}').stat().st_size} bytes")
    np.savez_compressed(records, **arrays)
    total = sum(path.stat().st_size for path in HERE.iterdir())
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
