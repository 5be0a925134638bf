"""What an NPU's own compiler makes of a `.tflite`: Arm's Vela for Ethos-U85.

It says which operators the NPU takes, and by its own model how many cycles they cost: the same on
every machine. It stands for this NPU; other makers' compilers are not to be had without their kits.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

INSTALL = 'pip install "keras-hybrid[engines]"'
ACCELERATOR = "ethos-u85-256"
SECONDS = 600
_REFUSED = re.compile(r"operator: (\w+), ofm: '([^']*)'\nReason: (.*)")


@dataclass(frozen=True)
class Refusal:
    """An operator that an engine leaves to the CPU.

    Attributes:
        operator: TFLite's name of it.
        layer: name of what it computes; empty where the engine does not say.
        reason: in the engine's words.
    """

    operator: str
    layer: str
    reason: str


@dataclass(frozen=True)
class NpuPlan:
    """What the compiler plans.

    Attributes:
        operators: of the compiled file, as the NPU sees them.
        refused: what stays on the CPU; an image or scores in float, which apps convert themselves,
            do not count.
        cycles: of one inference, by the compiler's model.
        cycles_by_operator: by TFLite's operator, as the compiler calls it.
        sram_bytes: of fast memory in use.
        dram_bytes: of slow memory in use, weights included.
        accelerator: that it was compiled for.
    """

    operators: int
    refused: tuple[Refusal, ...]
    cycles: int
    cycles_by_operator: Counter
    sram_bytes: int
    dram_bytes: int
    accelerator: str


def find_vela() -> str | None:
    """The compiler's program: beside this Python, or on the path; None where it is not there."""
    beside = Path(sys.executable).parent / "vela"
    return str(beside) if beside.is_file() else shutil.which("vela")


def plan_for_npu(path: str | os.PathLike, accelerator: str = ACCELERATOR) -> NpuPlan:
    """Compiles a `.tflite` for the NPU.

    Args:
        path: of a file in integers.
        accelerator: one of Vela's configurations.

    Raises:
        ValueError: where the compiler is not there, or takes no file of this kind.
    """
    program = find_vela()
    if program is None:
        raise ValueError(f"Vela is needed: {INSTALL}. Received: no program vela")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, os.fsdecode(path), "--verbose-performance"]
        command += ["--accelerator-config", accelerator, "--output-dir", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        layers = next(iter(Path(folder).glob("*_per-layer.csv")), None)
        summary = next(iter(Path(folder).glob("*_summary_*.csv")), None)
        if done.returncode or layers is None or summary is None:
            said = " ".join((done.stdout + done.stderr).split()[-40:])
            raise ValueError(f"Vela does not compile the file: {said}. Received: path={path}")
        with open(layers, newline="") as file:
            rows = list(csv.DictReader(file))
        with open(summary, newline="") as file:
            figures = next(csv.DictReader(file))
    cycles = Counter()
    for row in rows:
        cycles[row["Original Operator"]] += round(float(row["Op Cycles"]))
    return NpuPlan(
        operators=len(rows),
        refused=_refused(done.stdout + done.stderr),
        cycles=round(float(figures["cycles_total"])),
        cycles_by_operator=cycles,
        sram_bytes=round(1024 * float(figures["sram_memory_used"])),
        dram_bytes=round(1024 * float(figures["dram_memory_used"])),
        accelerator=accelerator,
    )


def _refused(text):
    found = [Refusal(*parts) for parts in _REFUSED.findall(text)]
    edges = ("QUANTIZE", "DEQUANTIZE")  # of an image, or scores, in float
    return tuple(x for x in found if x.operator not in edges)
