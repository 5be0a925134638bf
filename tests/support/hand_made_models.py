"""Small models of standard layers as people write them, by name: what rewriting must not change.

Each is a function without arguments that builds one. Inputs are images of 16 px or so, of the
inputs' own types; `images_for` gives what a model takes.
"""

import functools

import keras
import numpy as np
from keras import layers as L
from keras import ops

MODELS = {}


def hand_made(function):
    """Puts a function that computes outputs from one image into the table."""

    @functools.wraps(function)
    def build():
        image = keras.Input((16, 16, 3), name="image")
        return keras.Model(image, function(image), name=function.__name__)

    MODELS[function.__name__] = build
    return function


def built(function):
    """Puts a function that builds a model into the table."""
    MODELS[function.__name__] = function
    return function


def images_for(model, batch=2, seed=0):
    """Random images for each of the model's inputs, in the order of `model.inputs`."""
    random = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *(17 if size is None else size for size in tensor.shape[1:]))
        if keras.backend.is_float_dtype(tensor.dtype):
            arrays.append(random.normal(size=shape).astype("float32"))
        else:
            arrays.append(random.integers(0, 256, shape).astype(tensor.dtype))
    return arrays


def head(x, classes=5):
    return L.Dense(classes)(L.GlobalAveragePooling2D()(x))


def block(x, filters=8, **options):
    x = L.Conv2D(filters, 3, padding="same", use_bias=False, **options)(x)
    return L.ReLU()(L.BatchNormalization()(x))


def trunk(name="trunk", channels=3, **options):
    image = keras.Input((16, 16, channels), **options)
    x = block(L.Rescaling(1 / 127.5, -1.0)(image), strides=2)
    return keras.Model(image, L.GlobalAveragePooling2D(name="pool")(block(x)), name=name)


# Branches.


@hand_made
def plain(x):
    return head(block(block(x, strides=2)))


@hand_made
def residual(x):
    x = block(x)
    return head(L.Add()([x, block(block(x))]))


@hand_made
def long_sum(x):
    x = block(x)
    return head(L.Add()([x, block(x), L.Conv2D(8, 1)(x), L.MaxPooling2D(1)(x)]))


@hand_made
def sum_named_as_its_branches_begin(x):
    branches = [L.Conv2D(8, 1, name=f"res2a_branch{n}")(x) for n in (1, 2)]
    return head(L.Add(name="res2a")(branches))


@hand_made
def inception(x):
    pooled = L.AveragePooling2D(3, 1, padding="same")(x)
    return head(L.Concatenate()([block(x, 4), block(x, 6), block(pooled, 2)]))


@hand_made
def dense_block(x):
    for _ in range(3):
        x = L.Concatenate()([x, block(L.ReLU()(L.BatchNormalization()(x)), 4)])
    return head(x)


@hand_made
def squeeze_and_excitation(x):
    x = block(x)
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(2, 1, activation="relu")(gate)
    gate = L.Conv2D(8, 1, activation="sigmoid")(gate)
    return head(L.Multiply()([x, gate]))


@hand_made
def hard_gate(x):
    x = block(x)
    gate = L.Activation("hard_sigmoid")(L.Dense(8)(L.GlobalAveragePooling2D(keepdims=True)(x)))
    return head(L.Conv2D(4, 1)(L.Multiply()([x, gate])))


@hand_made
def one_value_added_to_itself(x):
    x = block(x)
    return head(L.Add()([x, x]))


@hand_made
def norm_of_two_readers(x):
    x = L.BatchNormalization()(L.MaxPooling2D()(x))
    return head(L.Add()([L.Conv2D(4, 1)(x), L.Conv2D(4, 3, padding="same")(x)]))


@hand_made
def norm_first(x):
    return head(block(L.BatchNormalization()(x)))


@hand_made
def norm_without_scale_and_center(x):
    x = L.BatchNormalization(scale=False, center=False)(L.Conv2D(4, 3)(x))
    return head(L.ReLU()(x))


@hand_made
def depthwise_separable(x):
    x = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x)))
    return head(L.Conv2D(8, 1)(x))


@hand_made
def separable_layer(x):
    return head(L.SeparableConv2D(8, 3)(L.BatchNormalization()(x)))


@hand_made
def large_depthwise(x):
    return head(L.DepthwiseConv2D(7, padding="same")(block(x)))


@hand_made
def upsampled(x):
    small = block(x, strides=2)
    return head(L.Add()([L.UpSampling2D()(small), block(x)]))


@hand_made
def transposed(x):
    return head(L.BatchNormalization()(L.Conv2DTranspose(4, 2, 2)(block(x, strides=2))))


@hand_made
def tokens(x):
    x = L.Reshape((-1, 8))(block(x, strides=4))
    y = L.LayerNormalization()(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(y, y)])
    x = L.Add()([x, L.Dense(8)(L.Dense(16, activation="gelu")(L.LayerNormalization()(x)))])
    return L.Dense(5)(L.GlobalAveragePooling1D()(L.LayerNormalization()(x)))


@hand_made
def activations(x):
    for name in ("relu6", "silu", "gelu", "leaky_relu", "elu", "tanh", "sigmoid", "linear"):
        x = L.Activation(name)(L.Conv2D(4, 1)(x))
    return L.Softmax()(head(L.PReLU(shared_axes=[1, 2])(x)))


@hand_made
def linear_activations(x):
    y = L.Conv2D(8, 3, padding="same")(x)
    y = L.Add()([y, L.Activation("linear")(L.Conv2D(8, 3, padding="same")(y))])
    return L.Activation("linear", name="predictions")(head(L.Identity()(y)))


@hand_made
def norm_at_the_output(x):
    return L.BatchNormalization(name="features")(L.Conv2D(4, 3, name="conv")(x))


@hand_made
def pooled_with_odd_sizes(x):
    x = L.Cropping2D(((1, 0), (0, 2)))(L.ZeroPadding2D(((1, 2), (0, 1)))(x))
    return head(L.MaxPooling2D(3, 2, padding="same")(block(x)))


@hand_made
def permuted(x):
    x = L.Permute((3, 1, 2))(block(x, 4, strides=4))
    return L.Dense(5)(L.Flatten()(x))


# Layers called several times.


@hand_made
def shared_relu(x):
    relu = L.ReLU()
    y = relu(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    z = relu(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(y)))
    return head(relu(L.Add()([y, z])))


@hand_made
def shared_convolution(x):
    conv = L.Conv2D(3, 3, padding="same")
    return head(conv(L.ReLU()(conv(x))))


@hand_made
def shared_convolution_with_norms_of_its_own(x):
    conv = L.Conv2D(3, 3, padding="same", use_bias=False)
    x = L.ReLU()(L.BatchNormalization()(conv(x)))
    return head(L.ReLU()(L.BatchNormalization()(conv(x))))


@hand_made
def shared_convolution_and_norm(x):
    conv, norm = L.Conv2D(3, 3, padding="same", use_bias=False), L.BatchNormalization()
    return head(norm(conv(L.ReLU()(norm(conv(x))))))


@hand_made
def shared_norm(x):
    norm = L.BatchNormalization()
    return head(L.Add()([norm(L.Conv2D(4, 1)(x)), norm(L.MaxPooling2D(1)(L.Conv2D(4, 1)(x)))]))


@hand_made
def shared_dense(x):
    x, dense = block(x), L.Dense(8, activation="relu")
    a, b = dense(L.GlobalAveragePooling2D()(x)), dense(L.GlobalMaxPooling2D()(x))
    return L.Dense(5)(L.Concatenate()([a, b]))


@hand_made
def shared_scaling(x):
    scale = L.Rescaling(0.5, 0.25)
    return head(L.Conv2D(4, 3)(scale(L.Conv2D(4, 3)(scale(x)))))


@hand_made
def shared_sum(x):
    add = L.Add()
    x = add([block(x), block(x)])
    return head(add([x, block(x)]))


# Models inside of models.


@built
def transfer_learning():
    image = keras.Input((16, 16, 3), name="image")
    outputs = L.Dense(5, activation="softmax", name="predictions")(trunk()(image, training=False))
    return keras.Model(image, outputs)


@built
def sequential():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            L.Rescaling(1 / 255.0),
            L.Conv2D(8, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Dropout(0.2),
            L.Flatten(),
            L.Dense(5),
        ]
    )


@hand_made
def sequential_blocks(x):
    for filters in (4, 8):
        layers = [L.Conv2D(filters, 3, use_bias=False), L.BatchNormalization(), L.ReLU()]
        x = keras.Sequential(layers, name=f"block{filters}")(x)
    return head(x)


@built
def siamese():
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    inner = trunk()
    return keras.Model([left, right], L.Dense(2)(L.Subtract()([inner(left), inner(right)])))


@built
def two_trunks_of_equal_names():
    image = keras.Input((16, 16, 3), name="image")
    outputs = []
    for name in ("one", "two"):
        x = keras.Input((16, 16, 3), name="inside")
        y = L.Conv2D(4, 3, name="conv")(x)
        y = L.GlobalAveragePooling2D(name="pool")(L.BatchNormalization(name="norm")(y))
        outputs.append(keras.Model(x, y, name=name)(image))
    return keras.Model(image, L.Dense(3, name="conv")(L.Concatenate(name="pool")(outputs)))


@built
def three_levels():
    x = keras.Input((16, 16, 8))
    inner = keras.Model(x, block(x), name="inner")
    y = keras.Input((16, 16, 8))
    middle = keras.Model(y, inner(inner(y)), name="middle")
    image = keras.Input((16, 16, 3), name="image")
    return keras.Model(image, head(middle(block(image))))


@built
def model_of_several_inputs_and_outputs_inside():
    a, b = keras.Input((16, 16, 3), name="a"), keras.Input((16, 16, 3), name="b")
    total = L.Add()([L.Conv2D(4, 1)(a), L.Conv2D(4, 1)(b)])
    inner = keras.Model({"a": a, "b": b}, {"sum": total, "same": b}, name="inner")
    image = keras.Input((16, 16, 3), name="image")
    found = inner({"b": image, "a": L.Activation("tanh")(image)})
    return keras.Model(image, [head(found["sum"]), head(found["same"])])


# Inputs and outputs.


@built
def two_inputs():
    a, b = keras.Input((16, 16, 3), name="a"), keras.Input((8, 8, 3), name="b")
    return keras.Model([a, b], L.Add()([head(block(a)), head(block(b))]))


@built
def inputs_by_name():
    a, b = keras.Input((16, 16, 3), name="a"), keras.Input((16, 16, 3), name="b")
    return keras.Model({"a": a, "b": b}, head(L.Concatenate()([block(a), b])))


@hand_made
def outputs_by_name(x):
    x = block(x)
    return {"scores": head(x), "features": x}


@hand_made
def one_output_twice(x):
    y = L.Dense(5, name="scores")(L.GlobalAveragePooling2D()(block(x)))
    return [y, y]


@hand_made
def the_image_for_an_output(x):
    return [head(block(x)), x]


@built
def any_size():
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, head(block(image, strides=2)))


# Images of other types, and arithmetic.


def of_bytes(function):
    @functools.wraps(function)
    def build():
        image = keras.Input((16, 16, 3), dtype="uint8", name="image")
        return keras.Model(image, function(image), name=function.__name__)

    MODELS[function.__name__] = build
    return function


@of_bytes
def bytes_rescaled(x):
    return head(block(L.Rescaling(1 / 255.0)(x)))


@of_bytes
def bytes_rescaled_to_one(x):
    return head(L.Conv2D(4, 3)(L.Rescaling(1.0)(x)))


@of_bytes
def bytes_cast(x):
    return head(block(ops.cast(x, "float32") / 127.5 - 1.0))


@of_bytes
def bytes_divided(x):
    return head(block(x / 255.0))


@of_bytes
def bytes_augmented(x):
    return head(L.Conv2D(4, 3)(L.RandomFlip()(x)))


@of_bytes
def bytes_into_a_model_of_floats(x):
    return L.Dense(5)(trunk()(x))


@hand_made
def normalized_by_hand(x):
    x = (x - np.array([0.1, 0.2, 0.3], "float32")) / np.array([0.5, 0.6, 0.7], "float32")
    return head(L.Conv2D(4, 3, padding="same")(1.0 - x))


@hand_made
def reversed_channels(x):
    return head(L.Add()([L.Conv2D(4, 3)(x[..., ::-1]), L.Conv2D(4, 3)(ops.flip(x, -1))]))


@hand_made
def normalization_layer(x):
    x = L.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])(x)
    return head(block(L.ZeroPadding2D()(x)))


@hand_made
def blank_channel(x):
    return head(L.Conv2D(4, 3)(L.Rescaling([0.0, 1.0, 2.0], [0.5, -1.0, 0.0])(x)))


@hand_made
def augmented(x):
    for layer in (L.RandomFlip(), L.RandomRotation(0.1), L.RandomContrast(0.1), L.RandomZoom(0.1)):
        x = layer(x)
    return head(L.GaussianNoise(0.1)(L.SpatialDropout2D(0.1)(block(x))))


@hand_made
def operations(x):
    x = ops.relu(L.Conv2D(4, 3)(x)) * 0.5
    x = ops.concatenate([x, ops.silu(x), ops.clip(x, 0.0, 1.0)], axis=-1)
    return L.Dense(5)(ops.mean(x, axis=(1, 2)))


@hand_made
def mid_network_constants(x):
    return head(L.Conv2D(4, 1)(2.0 * L.Conv2D(4, 3)(x) + 3.0))


# Layers that rewriting has to leave as they are.


@hand_made
def lambdas(x):
    layer = L.Lambda(lambda t: t / 127.5 - 1)
    return head(L.Conv2D(4, 3)(layer(layer(x))))


@hand_made
def activations_of_functions(x):
    x = L.Activation(lambda t: ops.gelu(t, approximate=True))(block(x))
    x = L.Activation(functools.partial(ops.leaky_relu, negative_slope=0.3))(x)
    return head(L.Conv2D(4, 1, activation=lambda t: t * t)(x))


class Unwritten(L.Layer):
    """A user's layer without `get_config`, and with an argument."""

    def __init__(self, power):
        super().__init__()
        self.power = power
        self.own = {"power": power}

    def call(self, x):
        return ops.power(ops.abs(x), self.own["power"])


@hand_made
def custom_layers(x):
    return head(L.Conv2D(4, 1)(Unwritten(np.float32(0.5))(block(x))))


# Half precision.


def in_half(policy):
    def decorate(function):
        def build():
            before = keras.config.dtype_policy()
            keras.config.set_dtype_policy(policy)
            try:
                image = keras.Input((16, 16, 3), dtype="float32", name="image")
                return keras.Model(image, function(image), name=function.__name__)
            finally:
                keras.config.set_dtype_policy(before)

        MODELS[function.__name__] = build
        return function

    return decorate


@in_half("mixed_float16")
def mixed_float16(x):
    return L.Activation("softmax", dtype="float32")(head(block(block(x))))


@in_half("mixed_bfloat16")
def mixed_bfloat16(x):
    x = L.LayerNormalization()(L.Conv2D(4, 3)(x))
    return L.Dense(5, dtype="float32")(L.GlobalAveragePooling2D()(x))
