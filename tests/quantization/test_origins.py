"""What quantisation knows of the origin of steps: sums, layers kept in float, names of outputs."""

import keras
from keras import layers

import keras_hybrid
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.surgery.editable_model import EditableModel


def roundings_of(model, names, **options):
    """The roundings of the named layers' outputs: one for several that share a range."""
    quantized = keras_hybrid.quantize(model, **options)
    found = set()
    for name in names:
        (tensor,) = keras.tree.flatten(quantized.get_layer(name).output)
        for layer in quantized.layers:
            if isinstance(layer, FakeQuantize):
                inputs = [node.input_tensors[0] for node in layer._inbound_nodes]
                if any(x is tensor for x in inputs):
                    found.add(layer.name)
    return found


def test_a_sum_whose_branches_begin_with_its_name_leaves_them_their_ranges():
    image = keras.Input((8, 8, 3))
    branches = [layers.Conv2D(4, 1, name=f"res2a_branch{n}")(image) for n in (1, 2)]
    model = keras.Model(image, layers.Add(name="res2a")(branches))
    assert len(roundings_of(model, ["res2a_branch1", "res2a_branch2"])) == 2


def test_parts_of_one_convolution_share_a_range():
    image = keras.Input((9, 9, 4))
    model = keras.Model(image, layers.DepthwiseConv2D(7, padding="same", name="large")(image))
    assert len(roundings_of(model, ["large_rows1", "large_rows2"], target="cpu")) == 1
    assert len(roundings_of(model, ["large_of2", "large_rows3"], target="cpu")) == 1


def test_one_layer_of_many_with_its_name_for_a_beginning_is_kept_in_float():
    image = x = keras.Input((4,))
    for name in ("dense", "dense_1", "dense_2"):
        x = layers.Dense(4, name=name)(x)
    quantized = keras_hybrid.quantize(keras.Model(image, x), keep_float=("dense",))
    in_float = [layer.name for layer in quantized.layers if type(layer) is layers.Dense]
    assert in_float == ["dense"]


def test_outputs_are_named_as_the_models_also_once_the_quantised_model_was_saved(tmp_path):
    image = keras.Input((4,))
    scores = layers.Dense(3, activation="softmax", name="predictions")(image)
    norm = layers.BatchNormalization(name="features")(layers.Dense(4, name="dense")(image))
    quantized = keras_hybrid.quantize(keras.Model(image, [scores, norm]))
    assert quantized.output_names == ["predictions", "features"]
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.models.load_model(tmp_path / "quantized.keras")
    assert EditableModel(loaded).to_model().output_names == ["predictions", "features"]


def test_a_layer_called_twice_has_a_range_for_each_call():
    image = keras.Input((8, 8, 3))
    relu, dense = layers.ReLU(), layers.Dense(4)
    x = layers.Conv2D(4, 1)(relu(layers.Conv2D(4, 1)(image)))
    model = keras.Model(image, layers.Add()([dense(relu(x)), dense(x)]))
    quantized = keras_hybrid.quantize(model)
    calls = [layer for layer in quantized.layers if isinstance(layer, FakeQuantize)]
    assert all(len(layer._inbound_nodes) == 1 for layer in calls)
    kernels = [layer for layer in quantized.layers if isinstance(layer, QuantizedKernel)]
    assert len(kernels) == 3  # dense is one of both calls, each with its own range
