"""The README does what it says: its code runs, its table is the code's."""

import re
from pathlib import Path

import pytest
from published import PUBLISHED

import keras_hybrid
from keras_hybrid.weights.presets import preprocessing_of

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
ROW = re.compile(r"\| `(\w+)` \| (\d+) \| ([\d.]+)M \| (\d+)M \| (.+) \|")


def test_the_code_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert len(BLOCKS) >= 4
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "runs" / "readme.tflite").stat().st_size > 1e6


def test_the_table_lists_every_model_in_order():
    assert [row[0] for row in ROW.findall(README)] == keras_hybrid.list_models()


@pytest.mark.parametrize("row", ROW.findall(README), ids=lambda row: row[0])
def test_the_table_s_figures_are_the_models(row):
    name, size, parameters, millions, _ = row
    assert preprocessing_of(name).resolution == int(size)
    counted_parameters, counted_millions = PUBLISHED[name]  # which the models are tested for
    assert counted_parameters / 1e6 == pytest.approx(float(parameters), abs=0.051)
    assert counted_millions == pytest.approx(int(millions), abs=0.6)
