"""The README does what it says: its code runs, its table is the code's."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from published import PUBLISHED, golden_state_dict
from safetensors.numpy import save

import keras_hybrid
from keras_hybrid.weights.preprocessing import preprocessing_of

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
ROW = re.compile(r"\| `(\w+)` \| (\d+) \| ([\d.]+)M \| (\d+)M \| (.+) \|")


@pytest.fixture
def home(monkeypatch, tmp_path):
    """MobileViT-XXS' published file on a loopback home, an empty cache, and a JPEG."""
    sys.path.insert(0, str(Path(__file__).parent / "weights"))
    import homes_server

    server = homes_server.serve()
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.homes.address)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    content = save(golden_state_dict("mobilevit_xxs"))
    server.homes.hugging_face("timm/mobilevit_xxs.cvnets_in1k", "model.safetensors", content)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype("uint8")
    Image.fromarray(noise).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.large
def test_the_code_blocks_run_in_order(home, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert len(BLOCKS) >= 5
    names = {}
    for block in BLOCKS:
        # One step of training is computed in seconds, and traced in most of a minute.
        tf.config.run_functions_eagerly(".fit(" in block)
        try:
            exec(compile(block, "README.md", "exec"), names)
        finally:
            tf.config.run_functions_eagerly(False)
    assert (tmp_path / "runs" / "readme.tflite").stat().st_size > 1e6
    assert "n0" in capsys.readouterr().out, "WordNet identifiers of the classes are printed"


def test_the_table_lists_every_model_in_order():
    assert [row[0] for row in ROW.findall(README)] == keras_hybrid.list_models()


@pytest.mark.parametrize("row", ROW.findall(README), ids=lambda row: row[0])
def test_the_table_s_figures_are_the_models(row):
    name, size, parameters, millions, _ = row
    assert preprocessing_of(name).resolution == int(size)
    counted_parameters, counted_millions = PUBLISHED[name]  # which the models are tested for
    assert counted_parameters / 1e6 == pytest.approx(float(parameters), abs=0.051)
    assert counted_millions == pytest.approx(int(millions), abs=0.6)
