"""Pickles by hand, opcode by opcode: what is no tensor is never imported, built or called."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.checkpoints.checkpoint_files import read_published

torch = pytest.importorskip("torch")

WEIGHTS = {"conv.weight": np.ones((2, 3), "float32"), "conv.bias": np.arange(2, dtype="float32")}
# Around a payload: a mapping of a state dict and of what the payload leaves on the stack.
_START = b"\x80\x02}("
_END = b"u."


def pickled(value):
    """A value's opcodes without protocol and stop."""
    return pickle.dumps(value, 2)[2:-1]


def archive_with(payload, path):
    """A file of `torch.save` whose pickle was changed to hold a payload beside the weights."""
    whole = io.BytesIO()
    torch.save({key: torch.from_numpy(value) for key, value in WEIGHTS.items()}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = (
                    _START
                    + pickled("state_dict")
                    + content[2:-1]
                    + pickled("other")
                    + payload
                    + _END
                )
            target.writestr(name, content)


@pytest.fixture
def trap(monkeypatch):
    """A module that says when a pickle imports, builds or calls something of it."""
    touched = []

    class Trap(types.ModuleType):
        def __getattr__(self, name):
            if not name.startswith("__"):
                touched.append(name)
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "trap_module", Trap("trap_module"))
    return touched


BUFFER = b"ctrap_module\nHistoryBuffer\n"
GETATTR = b"c__builtin__\ngetattr\n"
ONE = pickled(1)
HARMLESS = {
    "an object that is reduced": BUFFER + b"(" + ONE + b"tR",
    "an object with a state": BUFFER + b")\x81" + pickled({"a": 1, "__class__": 3}) + b"b",
    "an object with slots": BUFFER + b")\x81" + pickled((None, {"__class__": 3})) + b"b",
    "an attribute of a class": GETATTR + b"(" + BUFFER + pickled("mean") + b"tR",
    "a name nobody has": b"cno.such.package\nThing\n",
    "a function that is named only": b"csubprocess\nPopen\n",
    "a call that would start a program": b"csubprocess\nPopen\n(" + pickled(["false"]) + b"tR",
    "a chain to eval": GETATTR
    + b"("
    + GETATTR
    + b"(cno\nX\n"
    + pickled("__globals__")
    + b"tR"
    + pickled("get")
    + b"tR",
    "a list a hundred thousand deep": b"]" * 100_000 + b"a" * 99_999,
    "a tuple a hundred thousand deep": b")" + b"\x85" * 100_000,
}
REFUSED = {
    "os.system": b"cposix\nsystem\n(" + pickled("touch x") + b"tR",
    "nt's": b"cnt\nsystem\n(" + pickled("x") + b"tR",
    "eval": b"c__builtin__\neval\n(" + pickled("1") + b"tR",
    "exec": b"c__builtin__\nexec\n(" + pickled("1") + b"tR",
    "an import": b"c__builtin__\n__import__\n(" + pickled("trap_module") + b"tR",
    "a state for a class": BUFFER + pickled((None, {"__init__": 3})) + b"b",
    "a state for a standard class": b"ccollections\nOrderedDict\n" + pickled({"a": 1}) + b"b",
    "an old instance": b"(" + ONE + b"itrap_module\nThing\n",
    "an old object": b"(" + BUFFER + ONE + b"o",
    "a name from the stack": pickled("trap_module") + pickled("Thing") + b"\x93",
    "a call of what a call gave": BUFFER + b")R)R",
    "an identifier": b"P1\n",
    "another's identifier": pickled(("module", "x")) + b"Q",
    "an extension": b"\x82\x01",
    "too little on the stack": b"R",
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_inert_objects_stand_in(kind, tmp_path, trap):
    archive_with(HARMLESS[kind], tmp_path / "file.pth")
    found = read_published(tmp_path / "file.pth")
    assert set(found) == set(WEIGHTS)
    for key, value in WEIGHTS.items():
        np.testing.assert_array_equal(found[key], value)
    assert trap == []


@pytest.mark.parametrize("kind", REFUSED)
def test_the_rest_is_refused(kind, tmp_path, trap, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(vars(collections.OrderedDict))
    archive_with(REFUSED[kind], tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"file\.pth"):
        read_published(tmp_path / "file.pth")
    assert trap == [] and [x.name for x in tmp_path.iterdir()] == ["file.pth"]
    assert dict(vars(collections.OrderedDict)) == before


def test_a_class_is_left_out_of_a_state_dict_too(tmp_path, trap):
    """As PyTorch Lightning's and MMEngine's own files: beside the weights, and among them."""
    content = {
        "meta": {"epoch": 12, "cfg": "model = ...", "seed": np.int64(3)},
        "state_dict": collections.OrderedDict(
            (key, torch.from_numpy(value)) for key, value in WEIGHTS.items()
        ),
        "message_hub": {"log_scalars": {"loss": np.arange(3.0)}},
        "param_schedulers": [{"last_step": 40000}],
    }
    torch.save(content, tmp_path / "iter_40000.pth")
    found = read_published(tmp_path / "iter_40000.pth")
    assert set(found) == set(WEIGHTS)


@pytest.mark.large
def test_a_system_of_mmengine_is_loaded_whole_and_its_backbone_alone(tmp_path):
    """With its training's history beside it: neck and head are kept, or named where left out."""
    from keras_hybrid.weights.checkpoints.save import published_state_dict, write_checkpoint

    size = {"weights": None, "input_shape": (64, 64, 3)}
    backbone = keras_hybrid.IFormerT(include_top=False, **size)
    model = keras_hybrid.semantic_fpn(backbone, 3, neck_channels=16, head_channels=8)
    state = published_state_dict(model, "mmengine")
    path = tmp_path / "iFormer_iter_40000.pth"
    tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
    whole = io.BytesIO()
    torch.save({"meta": {"iter": 40000}, "state_dict": tensors, "hub": 0}, whole)
    hub = GETATTR + b"(" + BUFFER + pickled("mean") + b"tR"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                at = content.rindex(b"K\x00")  # the hub's place
                content = content[:at] + hub + content[at + 2 :]
            target.writestr(name, content)

    other = keras_hybrid.semantic_fpn(
        keras_hybrid.IFormerT(include_top=False, **size), 3, neck_channels=16, head_channels=8
    )
    keras_hybrid.load_checkpoint(other, path)
    for ours, theirs in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    alone = keras_hybrid.IFormerT(include_top=False, **size)
    with pytest.warns(UserWarning, match=r"left out: .*(neck|decode_head)"):
        keras_hybrid.load_checkpoint(alone, path)
    kernel = "stage1_block0_depthwise"
    np.testing.assert_array_equal(alone.get_layer(kernel).kernel, model.get_layer(kernel).kernel)
    write_checkpoint(other, tmp_path / "again.pth", "mmengine")
    again = read_published(tmp_path / "again.pth")
    assert set(again) == set(state)
