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
    done = programs("comparisons/overfit_scenes.py", "--steps=48", "--size=64", "--reports=1")
    assert done.returncode == 0, done.stderr
    (loss,) = map(float, re.findall(r"loss ([\d.]+), mIoU", done.stdout))
    assert loss < 1.2  # half of what eleven classes start from
