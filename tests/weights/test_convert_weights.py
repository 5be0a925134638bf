"""recipes/convert_weights.py: there and back, in one process."""

import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from safetensors.numpy import load_file, save_file

import keras_hybrid
from keras_hybrid.weights.checkpoints.save import write_checkpoint


@pytest.fixture
def convert(program):
    """Runs the program with flags; returns its exit message, None for success."""
    names = {"model", "source", "out", "classes", "distillation", "naming", "nesting", "ema"}
    names |= {"swap_channels", "overwrite"}
    for name in names & set(flags.FLAGS):
        delattr(flags.FLAGS, name)
    module = program("convert_weights")

    def run(*arguments):
        flags.FLAGS.unparse_flags()
        for name in names:
            flags.FLAGS[name].unparse()
        flags.FLAGS(["convert_weights.py", *map(str, arguments)])
        try:
            module.main(["convert_weights.py"])
        except SystemExit as exit:
            return exit.code

    yield run
    for name in names:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.mark.large
def test_published_to_ours_and_back(golden, convert, tmp_path):
    golden = golden("mobilevit_xxs")
    source = tmp_path / "model.safetensors"
    save_file(golden.state_dict(), source)
    ours = tmp_path / "ours.weights.h5"
    assert convert("--model=MobileViTXXS", f"--source={source}", f"--out={ours}") is None
    assert golden.error(golden.build(weights=ours)) < 5e-5
    back = tmp_path / "back.safetensors"
    assert convert("--model=MobileViTXXS", f"--source={ours}", f"--out={back}") is None
    written = load_file(back)
    assert set(written) == set(golden.state_dict())
    for key, array in golden.state_dict().items():
        np.testing.assert_array_equal(written[key], array)

    hugging_face = tmp_path / "hf.safetensors"
    arguments = ("--model=MobileViTXXS", f"--source={ours}", f"--out={hugging_face}")
    assert convert(*arguments, "--naming=hugging_face", "--swap_channels") is None
    turned = load_file(hugging_face)["mobilevit.conv_stem.convolution.weight"]
    np.testing.assert_array_equal(turned, golden.state_dict()["stem.conv.weight"][:, ::-1])

    assert "exists; --overwrite" in convert(*arguments)
    before = hugging_face.read_bytes()
    assert "namings ('timm', 'hugging_face')" in convert(*arguments, "--overwrite", "--naming=x")
    assert hugging_face.read_bytes() == before
    assert "does not fit" in convert(*arguments, "--overwrite", "--classes=3")
    assert "no file of that name" in convert("--model=MobileViTXXS", "--source=x.pth", "--out=y.h5")
    assert "no model of that name" in convert("--model=X", f"--source={ours}", "--out=y.keras")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        ".h5",
        ".safetensors",
        ".safetensors",
        ".safetensors",
    ]


@pytest.mark.large
def test_a_tag_is_downloaded(golden, convert, homes, tmp_path):
    from safetensors.numpy import save

    golden = golden("iformer_t_timm")
    homes.hugging_face("timm/iformer_t.in1k", "model.safetensors", save(golden.state_dict()))
    out = tmp_path / "t.keras"
    assert convert("--model=IFormerT", "--source=imagenet", f"--out={out}") is None
    model = golden.build()
    keras_hybrid.load_checkpoint(model, out)
    assert golden.error(model) < 5e-5


@pytest.mark.large
@pytest.mark.parametrize("name", ["IFormerL", "MobileFormer508M"])
def test_conversion_of_a_large_pickle_is_quick_and_small(name, tmp_path, root, require):
    """Under 20 s on two cores, and under 1.5 GiB."""
    require(module="torch")
    source = tmp_path / "large.pth"
    write_checkpoint(keras_hybrid.build_model(name, weights=None), source, "authors")
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)\n"
    )
    command = [sys.executable, root / "recipes" / "convert_weights.py", f"--model={name}"]
    command += [f"--source={source}", f"--out={tmp_path / 'ours.weights.h5'}"]
    run = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=True
    )
    seconds, kibibytes = map(float, run.stdout.split()[-2:])
    assert seconds < 2 * 20  # of processor time: others may be using the cores
    assert kibibytes < 1.5 * 2**20
