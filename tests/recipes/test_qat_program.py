"""qat.py from end to end, with a network that trains in milliseconds."""

import pytest

# Puts small data in place of the run's.
SMALL = """
import small_training
from keras_hybrid.training.tasks import classification

classification.open_source = lambda *_: small_training.make_source()
"""


@pytest.fixture
def program(programs, require):
    require(module="tensorflow_model_optimization")

    def call(*arguments, **options):
        return programs("recipes/qat.py", *arguments, before=SMALL, **options)

    return call


@pytest.mark.large
def test_a_float_run_becomes_files_and_a_report(
    program, recipe, source, tmp_path, tiny_network, require
):
    require(module="ai_edge_litert")
    from keras_hybrid.training.run.run import train

    train(recipe, source, tmp_path / "float")
    arguments = (f"--run={tmp_path / 'float'}", f"--out={tmp_path / 'int8'}", "epochs=1")

    refused = program(*arguments, "keep_float=nothing")
    assert refused.returncode == 1 and "qat.py: `keep_float` must name layers" in refused.stderr
    assert "Traceback" not in refused.stderr and not (tmp_path / "int8").exists()

    done = program(*arguments, "calibration_images=20")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("float", "post_training", "trained"):
        assert (tmp_path / "int8" / f"{name}.tflite").stat().st_size > 1000
    report = (tmp_path / "int8" / "report.md").read_text()
    table = done.stdout.split("\n\n")[0]
    assert table.startswith("| model ") and "\n| trained " in table
    accuracy = table.splitlines()[-2].split("|")[3].strip()
    assert f" {accuracy} |" in report and "in int8" in report


@pytest.mark.large
def test_bad_input_is_answered_in_a_line(program, tmp_path):
    done = program(f"--run={tmp_path}", f"--out={tmp_path / 'out'}", fresh=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "qat.py: A finished run's folder holds `model.keras`" in done.stderr
