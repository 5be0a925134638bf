"""What each engine takes of a `.tflite` and what it refuses, and why, in a few lines."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from keras_hybrid.engines.gpu import BrowserEngine
from keras_hybrid.engines.media_pipe import open_with_media_pipe
from keras_hybrid.engines.npu import Refusal, plan_for_npu
from keras_hybrid.export.engines import check_gpu_delegate
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.metadata import read_record

ENGINES = ("gpu", "npu", "mediapipe")
TITLES = {
    "cpu": "CPU (XNNPACK)",
    "gpu list": "GPU, by its list",
    "gpu": "GPU (LiteRT.js, WebGPU)",
    "npu": "NPU (Vela, Ethos-U85)",
    "mediapipe": "MediaPipe Tasks",
}
LAYERS_SHOWN = 3


@dataclass(frozen=True)
class EngineAnswer:
    """What one engine said.

    Attributes:
        engine: its key, of `TITLES`.
        takes: whether it takes all of the file; None where it was not asked.
        refused: what it leaves to the CPU, or to LiteRT's own kernels.
        figures: partitions, cycles, memory: what else it tells.
        missing: what it needs to be asked, and the command that installs it; empty where it was.
    """

    engine: str
    takes: bool | None
    refused: tuple[Refusal, ...] = ()
    figures: str = ""
    missing: str = ""

    def text(self) -> str:
        """The lines that tell it, refusals counted by cause."""
        title = f"  {TITLES[self.engine]:26}"
        if self.takes is None:
            return f"{title}not asked: {self.missing}"
        lines = [title + ("takes it" if self.takes else "not all of it") + self.figures]
        causes: dict[tuple[str, str], list[str]] = {}
        for item in self.refused:
            causes.setdefault((item.operator, item.reason), []).append(item.layer)
        for (operator, reason), layers in causes.items():
            named = [name for name in dict.fromkeys(layers) if name]
            shown = ", ".join(named[:LAYERS_SHOWN]) + (", ..." if len(named) > LAYERS_SHOWN else "")
            lines.append(
                f"    {len(layers)} {operator}: {reason}" + (f" ({shown})" if shown else "")
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class EnginesReport:
    """What all engines said.

    Attributes:
        path: of the file.
        answers: by engine.
    """

    path: str
    answers: dict[str, EngineAnswer] = field(default_factory=dict)

    def text(self) -> str:
        """The lines that tell it to a user."""
        return "\n".join((self.path, *(answer.text() for answer in self.answers.values())))


def check_engines(
    path: str | os.PathLike,
    engines: tuple[str, ...] = ENGINES,
    browser: BrowserEngine | None = None,
    by_list: bool = True,
) -> EnginesReport:
    """Asks engines whether they take a `.tflite`: real ones, where they are installed.

    Args:
        path: of the file.
        engines: which to ask: "gpu" for LiteRT.js with WebGPU in headless Chromium; "npu" for
            Arm's compiler, of files in int8; "mediapipe" for MediaPipe Tasks.
        browser: to ask the GPU in, for several files; None for one of its own.
        by_list: whether to tell, too, what needs no further engine: XNNPACK, and the GPU delegate's
            list of operators.

    Returns: an `EnginesReport`; what is not installed is said with the command that installs it.

    Raises:
        ValueError: for an unknown engine, a missing file or one that is no `.tflite`.
    """
    unknown = set(engines) - set(ENGINES)
    if unknown:
        raise ValueError(f"`engines` must be of {ENGINES}. Received: engines={engines!r}")
    path = os.fsdecode(path)
    inspection = inspect_tflite(path)
    report = EnginesReport(path)
    if by_list:
        report.answers["cpu"] = _cpu(inspection)
        report.answers["gpu list"] = _gpu_list(path)
    if "gpu" in engines:
        report.answers["gpu"] = _asked("gpu", lambda: _gpu(path, browser))
    if "npu" in engines:
        report.answers["npu"] = _asked("npu", lambda: _npu(path, inspection))
    if "mediapipe" in engines:
        report.answers["mediapipe"] = _asked("mediapipe", lambda: _media_pipe(path))
    return report


def _asked(engine: str, ask: Callable[[], EngineAnswer]) -> EngineAnswer:
    try:
        return ask()
    except ValueError as error:
        return EngineAnswer(engine, None, missing=str(error))


def _cpu(inspection):
    refused = tuple(
        Refusal(name, "", "no kernel of XNNPACK for it")
        for name, count in inspection.undelegated.items()
        for _ in range(count)
    )
    partitions = f" in {inspection.partitions} partition{'s' * (inspection.partitions != 1)}"
    return EngineAnswer("cpu", not refused, refused, partitions)


def _gpu_list(path):
    found = check_gpu_delegate(path)
    refused = [
        Refusal(name, "", "not on the list")
        for name, count in found.unsupported_ops.items()
        for _ in range(count)
    ]
    refused += [
        Refusal(x.producer, _layer(x.name), "more than four axes, or a first one over 1")
        for x in found.unsupported_shapes
    ]
    refused += [
        Refusal("BATCH_MATMUL", _layer(name), "a constant on the left")
        for name in found.constant_products
    ]
    refused += [
        Refusal(operator, _layer(name), "one value twice")
        for operator, name in found.repeated_inputs
    ]
    refused += [
        Refusal("BATCH_MATMUL", _layer(name), "one on the right for several: computed wrongly")
        for name in found.shared_products
    ]
    refused += [
        Refusal("BATCH_MATMUL", _layer(name), "too many rows on the right: computed wrongly")
        for name in found.long_products
    ]
    return EngineAnswer("gpu list", not refused, tuple(refused))


def _gpu(path, browser):
    if browser is None:
        with BrowserEngine() as own:
            answer = own.prepare(path)
    else:
        answer = browser.prepare(path)
    figures = f": {answer.on_cpu} operators run on the CPU" if answer.on_cpu else ""
    refused = tuple(Refusal(name, "", reason) for name, reason in answer.refused)
    return EngineAnswer("gpu", answer.whole, refused, figures)


def _npu(path, inspection):
    if read_record(path).get("precision") not in ("int8", None) and inspection.float_tensors:
        raise ValueError("it runs integers alone: export with precision='int8'")
    plan = plan_for_npu(path)
    memory = f"{plan.sram_bytes / 2**10:.0f} KiB SRAM, {plan.dram_bytes / 2**20:.1f} MiB DRAM"
    figures = f", {plan.cycles / 1e6:.2f} M cycles, {memory}"
    return EngineAnswer("npu", not plan.refused, plan.refused, figures)


def _media_pipe(path):
    opened, why = open_with_media_pipe(path)
    refused = () if opened else (Refusal("file", "", why),)
    return EngineAnswer("mediapipe", bool(opened), refused, f": {', '.join(opened)}" * bool(opened))


def _layer(name):
    """The layer in an operator's name, "network/layer/operation"."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 else name
