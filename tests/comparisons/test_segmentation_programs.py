"""Whether segmentation trains as Hugging Face's does, and learns by heart; both shortened."""

import re

import pytest


@pytest.mark.large
def test_the_first_losses_are_hugging_faces(programs, require):
    require(module="torch")
    require(module="transformers")
    done = programs(
        "comparisons/compare_segmentation_training.py", "--steps=20", "--batch_size=2", "--size=64"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PyTorch") >= 20


@pytest.mark.large
def test_scenes_are_learned_by_heart(programs, require):
    require(module="sklearn")
    done = programs("comparisons/overfit_scenes.py", "--steps=96", "--size=64", "--reports=2")
    assert done.returncode == 0, done.stderr
    first, last = map(float, re.findall(r"loss ([\d.]+), mIoU", done.stdout))
    assert last < 0.6 * first
