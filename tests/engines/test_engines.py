"""Real engines, asked about files of the smallest network of each family."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.engines.check import check_engines
from keras_hybrid.engines.chromium import find_chromium
from keras_hybrid.engines.gpu import BrowserEngine, BrowserRun
from keras_hybrid.engines.npu import find_vela, plan_for_npu
from keras_hybrid.export.engines import check_gpu_delegate
from keras_hybrid.surgery.pipelines import FILES, FUSE

NETWORKS = ("MobileFormer26M", "MobileViTXXS", "IFormerT")
SIZE = 64
SAID = (
    "INFO: Created an environment",
    "ERROR: Following operations are not supported by GPU delegate:\n"
    "BATCH_MATMUL: Not supported batched mat mul case: non-constant tensor\n"
    "702 operations will run on the GPU, and the remaining 9 operations will run on the CPU.",
)


@pytest.fixture(scope="module")
def browser(require):
    """The GPU's engine in a browser, for all files."""
    if find_chromium() is None:
        require(program="chromium")
    try:
        engine = BrowserEngine()
    except ValueError:
        require(program="LiteRT.js (keras-hybrid serve --install)")
    with engine:
        yield engine


@pytest.fixture(scope="module")
def vela(require):
    if find_vela() is None:
        require(program="vela")


@pytest.fixture(scope="module", params=NETWORKS)
def files(request, tmp_path_factory, require):
    """A network's files for each engine, and the pixels to run them on."""
    require(module="ai_edge_litert")
    import keras
    from harness import randomise

    folder = tmp_path_factory.mktemp(request.param)
    keras.utils.set_random_seed(0)
    model = keras_hybrid.build_model(
        request.param, weights=None, classes=5, input_shape=(SIZE, SIZE, 3)
    )
    randomise(model)
    random = np.random.default_rng(0)
    quantized = keras_hybrid.quantize(model, target="npu")
    images = random.normal(size=(4, SIZE, SIZE, 3)).astype("float32")
    keras_hybrid.calibrate(quantized, images, stream=None)
    paths = {
        precision: keras_hybrid.export_tflite(
            quantized if precision == "int8" else model,
            folder / f"{precision}.tflite",
            precision,
            preprocessing=True,
            target=target,
        )
        for precision, target in (("float32", "cpu"), ("float16", "gpu"), ("int8", "npu"))
    }
    if request.param == "MobileFormer26M":
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(FILES["float32"], "cpu", FUSE)  # without what GPUs ask for
            paths["queries of a product"] = keras_hybrid.export_tflite(
                model, folder / "product.tflite", preprocessing=True
            )
    pixels = random.integers(0, 256, (1, SIZE, SIZE, 3)).astype("float32")
    return SimpleNamespace(paths=paths, pixels=pixels)


@pytest.mark.large
def test_the_gpu_takes_float_files_whole_and_computes_the_same(files, browser):
    for precision in ("float32", "float16"):
        path = files.paths[precision]
        on_gpu = browser.run(path, {"image": files.pixels})
        assert on_gpu.whole, on_gpu.refused
        assert check_gpu_delegate(path).ready  # the list says the same
        (found,) = on_gpu.outputs.values()
        (expected,) = browser.run(path, {"image": files.pixels}, "wasm").outputs.values()
        most = 1e-5 if precision == "float32" else 1e-3
        assert np.abs(found - expected).max() <= most * np.abs(expected).max()
        assert found.argmax() == expected.argmax()


@pytest.mark.large
def test_the_npu_takes_int8_files_whole(files, vela):
    plan = plan_for_npu(files.paths["int8"])
    assert plan.refused == ()
    assert plan.cycles > 0 and sum(plan.cycles_by_operator.values()) > 0


def between_map_and_tokens():
    """Mobile-Former's attention from pixels to tokens, of a map of 7 x 7."""
    import keras

    from keras_hybrid.layers import DotProductAttention

    image = keras.Input((7, 7, 8), name="image")
    tokens = keras.layers.Reshape((3, 8))(keras.layers.Dense(24)(keras.layers.Flatten()(image)))
    return keras.Model(image, DotProductAttention(2)([image, tokens, tokens]))


def several_with_one():
    """A matrix product of three matrices with one on the right."""
    import keras

    image = keras.Input((7, 7, 8), name="image")
    right = keras.layers.Reshape((1, 49, 8))(image)
    return keras.Model(image, keras.ops.matmul(image, keras.ops.transpose(right, (0, 1, 3, 2))))


def from_tokens_to_many_pixels():
    """Mobile-Former's attention from tokens to a map of 182 x 182, as of images of 364 px."""
    import keras

    from keras_hybrid.layers import DotProductAttention

    image = keras.Input((182, 182, 8), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    tokens = keras.layers.Reshape((3, 8))(keras.layers.Dense(24)(pooled))
    return keras.Model(image, DotProductAttention(2)([tokens, image, image]))


def among_many_pixels():
    """Attention of several heads with the values of 4 x 8,464 positions on the right."""
    import keras

    from keras_hybrid.layers import DotProductAttention

    image = keras.Input((184, 184, 8), name="image")
    few = keras.layers.AveragePooling2D(46)(image)
    settings = {"num_heads": 1, "separate_positions": True}
    groups = [keras.layers.Reshape((n, 4, 8))(x) for n, x in ((4, few), (8464, image))]
    return keras.Model(image, DotProductAttention(**settings)([groups[0], groups[1], groups[1]]))


def many_rows_on_the_right():
    """A matrix product with the positions of a map of 182 x 182 on the right."""
    import keras

    image = keras.Input((182, 182, 8), name="image")
    values = keras.layers.Reshape((182 * 182, 8))(image)
    weights = keras.ops.softmax(keras.ops.transpose(values, (0, 2, 1)))
    return keras.Model(image, keras.ops.matmul(weights, values))


def of_itself(operation):
    """A value and itself."""
    import keras

    image = keras.Input((7, 7, 8), name="image")
    x = keras.layers.ReLU()(image) + 0.5
    return keras.Model(image, keras.ops.exp(getattr(keras.ops, operation)(x, x)))


def to_one_token():
    """Mobile-Former's attention with a single token, of which softmax is 1."""
    import keras

    from keras_hybrid.layers import DotProductAttention

    image = keras.Input((8, 8, 8), name="image")
    token = keras.layers.Reshape((1, 8))(keras.layers.GlobalAveragePooling2D()(image))
    x = DotProductAttention(2)([image, token, token])
    return keras.Model(image, keras.layers.Add()([x, DotProductAttention(2)([token] * 3)[:, None]]))


@pytest.mark.large
def test_what_takes_one_value_twice_is_refused_and_on_the_list(browser, tmp_path):
    taken = {"add", "multiply"}
    for operation in (*taken, "subtract", "divide", "maximum", "minimum", "power"):
        path = keras_hybrid.export_tflite(of_itself(operation), tmp_path / "a.tflite")
        assert browser.prepare(path).whole == (operation in taken), operation
        assert check_gpu_delegate(path).ready == (operation in taken), operation
    model = to_one_token()
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    assert browser.prepare(path).whole and check_gpu_delegate(path).ready
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype("float32")
    (found,) = browser.run(path, {"image": images}).outputs.values()
    np.testing.assert_allclose(found, np.ravel(model(images)), atol=1e-5)


@pytest.mark.large
def test_products_of_odd_and_of_many_pixels_are_right_or_on_the_list(browser, tmp_path):
    for make, listed in (
        (between_map_and_tokens, False),
        (several_with_one, True),
        (from_tokens_to_many_pixels, False),
        (among_many_pixels, False),
        (many_rows_on_the_right, True),
    ):
        model = make()
        images = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:]))
        images = images.astype("float32")
        path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
        found, expected = (
            next(iter(browser.run(path, {"image": images}, engine).outputs.values()))
            for engine in ("webgpu", "wasm")
        )
        wrong = np.abs(found - expected).max() > 1e-5 * np.abs(expected).max()
        assert wrong == listed == (not check_gpu_delegate(path).ready)


@pytest.mark.large
@pytest.mark.parametrize("files", ["MobileFormer26M"], indirect=True)
def test_list_and_engine_refuse_the_same(files, browser):
    path = files.paths["queries of a product"]
    answers = check_engines(path, ("gpu",), browser).answers
    for engine in ("gpu list", "gpu"):
        assert not answers[engine].takes
        assert {item.operator for item in answers[engine].refused} == {"BATCH_MATMUL"}
    assert "1 BATCH_MATMUL: a constant on the left (stage2" in answers["gpu list"].text()


def test_what_a_browser_says_is_read():
    found = BrowserRun(SAID, {})
    assert not found.whole and found.on_cpu == 9
    assert found.refused == (
        ("BATCH_MATMUL", "Not supported batched mat mul case: non-constant tensor"),
    )
    assert BrowserRun(SAID[:1], {}).whole


def test_what_is_missing_is_said_with_what_installs_it(tmp_path, monkeypatch, require):
    require(module="ai_edge_litert")
    import keras

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(image))
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    monkeypatch.setattr("keras_hybrid.engines.npu.find_vela", lambda: None)
    monkeypatch.setenv("KERAS_HYBRID_LITERTJS", os.fspath(tmp_path))
    monkeypatch.setenv("KERAS_HYBRID_MEDIAPIPE", os.fspath(tmp_path / "python"))
    text = check_engines(path).text()
    for said in ("keras-hybrid serve --install", "pip install 'mediapipe"):
        assert said in text
    assert "export with precision='int8'" in text  # a file in float is none for that NPU
    with pytest.raises(ValueError, match=r"keras-hybrid\[engines\]"):
        plan_for_npu(path)
    with pytest.raises(ValueError, match="Received: engines="):
        check_engines(path, ("tpu",))
