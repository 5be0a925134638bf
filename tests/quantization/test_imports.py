"""Any module may be the first that a process imports."""

import subprocess
import sys

import pytest


@pytest.mark.large
@pytest.mark.parametrize("module", ["layers", "quantization.ranges.fake_quantize"])
def test_first_import(module):
    program = (
        f"import keras_hybrid.{module}, keras\n"
        "assert 'keras_hybrid>QuantizedConv2D' in keras.saving.get_custom_objects()\n"
        "assert 'keras_hybrid>GlobalTokens' in keras.saving.get_custom_objects()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
