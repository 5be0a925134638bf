"""What type checkers and editors see of the package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_hybrid

ROOT = Path(__file__).parent.parent
USER = """
import keras_hybrid
model = keras_hybrid.MobileViTXXS(classes=3, weights=None)
keras_hybrid.IFormerT(True, "imagenet", distillation=True)
keras_hybrid.MobileViTXXS(clases=3)
keras_hybrid.MobileFormer26M(patch_size=2)
keras_hybrid.MobileFormer999M
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's file with three mistakes, in its last three lines."""
    path = tmp_path_factory.mktemp("user") / "user.py"
    path.write_text(USER)
    return path


def complaints(command, user):
    """Lines of the user's file that a type checker complains of."""
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command, str(user)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=user.parent,
    )
    found = re.findall(r"user\.py:(\d+)(?::\d+)?(?: -|:) error: (.+)", done.stdout)
    assert found, done.stdout + done.stderr
    return {int(line): text for line, text in found}


MYPY = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", os.devnull)


@pytest.mark.large
def test_mypy_finds_nothing_wrong_in_public_modules(require):
    require(module="mypy")
    modules = [f"--module={module}" for module in sorted(set(keras_hybrid._MODULE_OF.values()))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *MYPY, *modules], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.large
def test_mypy_knows_names_and_options(user, require):
    require(module="mypy")
    found = complaints(["mypy", *MYPY], user)
    assert set(found) == {5, 6, 7}
    assert '"clases"' in found[5] and "MobileFormer26M" in found[7]


@pytest.mark.large
def test_pyright_knows_names_and_options(user, require):
    require(module="pyright")
    require(program="node")
    found = complaints(["pyright", "--pythonpath", sys.executable], user)
    assert {5, 6, 7} <= set(found) and not {3, 4} & set(found)
    assert '"clases"' in found[5] and "MobileFormer999M" in found[7]


def test_editors_complete_names(require):
    require(module="jedi")
    import jedi

    script = jedi.Script("import keras_hybrid\nkeras_hybrid.Mob", project=jedi.Project(ROOT))
    names = {completion.name for completion in script.complete()}
    assert names == {name for name in keras_hybrid.__all__ if name.startswith("Mob")}
