"""Where there is no GPU, the program says so and measures nothing."""

import os
import subprocess
import sys


def test_without_a_gpu_it_says_so(root):
    done = subprocess.run(
        [sys.executable, root / "comparisons" / "benchmark_gpu.py"],
        env={**os.environ, "PATH": ""},  # no nvidia-smi
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3 and "There is no NVIDIA GPU here" in done.stdout
