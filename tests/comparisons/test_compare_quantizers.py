"""compare_quantizers.py from end to end, with a stand-in for the Python of the other quantiser."""

import json
import sys

import numpy as np
import pytest

# Puts small data in place of the run's.
SMALL = """
import small_training
from keras_hybrid.training.data import sources

sources.open_source = lambda *_: small_training.make_source()
"""
# Says what it was given, and gives the float file back as its own.
STAND_IN = """#!{python}
import json, shutil, sys
from pathlib import Path
{degenerate}
folder = Path(sys.argv[0]).parent
(folder / "given.json").write_text(json.dumps(sys.argv[1:]))
if (folder / "broken").exists():
    sys.exit("no such operator")
shutil.copy(sys.argv[2], sys.argv[4])
if (folder / "damaged").exists():
    Path(sys.argv[4]).write_bytes(b"no such file")
if (folder / "degenerate").exists():
    refused_by_xnnpack(folder / "degenerate", sys.argv[4])
"""
# A scale as of a value that was 0 in every calibration image.
DEGENERATE = """
def refused_by_xnnpack(source, path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes()))
    (graph,) = model.subgraphs
    kinds = [code.builtinCode for code in model.operatorCodes]
    convolutions = [
        x for x in graph.operators if kinds[x.opcodeIndex] == schema.BuiltinOperator.CONV_2D
    ]
    graph.tensors[convolutions[-1].outputs[0]].quantization.scale = [1e-16]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path = Path(path)
    path.write_bytes(builder.Output())
"""


@pytest.fixture
def program(programs, tmp_path, require):
    require(module="tensorflow_model_optimization")
    require(module="ai_edge_litert")
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable, degenerate=DEGENERATE))
    stand_in.chmod(0o755)

    def call(*arguments, python=stand_in, **options):
        arguments = (f"--ai_edge_quantizer={python}", "--rounds=1", *arguments)
        return programs("comparisons/compare_quantizers.py", *arguments, before=SMALL, **options)

    return call


@pytest.mark.large
def test_four_files_of_one_run_in_a_table(program, recipe, source, tmp_path, tiny_network, root):
    from keras_hybrid.training.run.run import train

    train(recipe, source, tmp_path / "run")
    out = tmp_path / "out"
    arguments = (f"--run={tmp_path / 'run'}", f"--out={out}", "--images=20")
    (tmp_path / "broken").touch()
    refused = program(*arguments)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "float32.tflite: no such operator" in refused.stderr
    (tmp_path / "broken").unlink()

    done = program(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    given = json.loads((tmp_path / "given.json").read_text())
    assert given[0] == str(root / "comparisons" / "quantize_peer.py")
    assert given[1] == str(out / "float32.tflite")
    assert np.load(given[2]).shape == (20, 64, 64, 3)

    assert done.stdout == (out / "quantizers.md").read_text()
    heading, _, header, _, *rows = done.stdout.splitlines()
    assert heading == "MobileFormer26M, greys, 8 test images, 64 x 64, 20 images to calibrate with"
    names = [cell.strip() for cell in header.strip("| ").split("|")]
    rows = [
        dict(zip(names, map(str.strip, row.strip("| ").split("|")), strict=True)) for row in rows
    ]
    floats, theirs, int8, int8_cpu = rows
    assert [row["file"] for row in rows] == [
        "float32",
        "ai-edge-quantizer int8",
        "ours int8",
        "ours int8_cpu",
    ]
    assert theirs["accuracy"] == floats["accuracy"] and theirs["MB"] == floats["MB"]
    assert floats["of float"] == theirs["of theirs"] == "1.00"
    assert int8["float tensors"] == "0" and int(theirs["float tensors"]) > 0
    assert (out / "int8.tflite").read_bytes() != (out / "int8_cpu.tflite").read_bytes()

    (tmp_path / "damaged").touch()
    done = program(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| ai-edge-quantizer int8 | LiteRT refuses the file |" in done.stdout
    assert done.stdout.count("| ours int8") == 2
    (tmp_path / "damaged").unlink()

    (tmp_path / "degenerate").write_bytes((out / "int8.tflite").read_bytes())
    done = program(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    (theirs,) = (row for row in done.stdout.splitlines() if "ai-edge-quantizer" in row)
    _, _, accuracy, latency, _, of_theirs, _, delegate, _, _ = map(str.strip, theirs.split("|"))
    assert accuracy.endswith("%") and float(latency) > 0 and of_theirs == "1.00"
    assert delegate == "XNNPACK refuses it"


@pytest.mark.large
def test_what_is_no_python_is_named(program, tmp_path):
    done = program(f"--run={tmp_path}", f"--out={tmp_path / 'out'}", python="missing", fresh=True)
    assert done.returncode == 1 and "--ai_edge_quantizer=missing" in done.stderr
