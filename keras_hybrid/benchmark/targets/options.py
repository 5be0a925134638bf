"""What all runs of a matrix share, whatever target they run on."""

import dataclasses
import re
from pathlib import Path

from keras_hybrid.benchmark.health import device_state
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.rows import COLD_START, VERIFICATION
from keras_hybrid.benchmark.targets import tool_flags
from keras_hybrid.benchmark.targets.delegates import DELEGATES, Delegate
from keras_hybrid.benchmark.verification.check import Verification


@dataclasses.dataclass(frozen=True)
class Variant:
    """What one side of a comparison runs with: its programs and its further flags."""

    binaries: tuple[str, ...] = ()
    extra_flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What all runs of a matrix share.

    Args:
        binaries: paths of `benchmark_model`; each device takes the first that is for its ABI.
            None are needed with the APK route and with the host's interpreter.
        cores: "big" (the strongest cores, one for each thread), "all", or a hexadecimal mask.
        extra_flags: further flags, passed as they are to every run.
        libraries: paths of vendors' libraries that are pushed beside the program, under their own
            names; the loader of the phone and of its DSP looks for them there.
        variants: by name, for cells that name one; others have `binaries` and `extra_flags`.
        verification: what cells of that kind are held against.
        run_model: paths of LiteRT's `run_model`, which shows outputs; `benchmark_model` of LiteRT
            2.x does not.
        lock_clocks: share of their highest clock that the cores of rooted phones are locked to;
            None leaves them alone.
        watch_seconds: between two samples of clocks and temperatures during a run; 0 for none.
        fixed_performance: whether phones are asked for Android's fixed performance mode, in which
            clocks do not follow the load; rows say whether they have it.
        lock_seconds: how long to wait for another harness to leave a phone.
        start_seconds: how long loading and preparing a model may take at most.
    """

    binaries: tuple[str, ...]
    protocol: tool_flags.Protocol
    rules: device_state.Rules = device_state.Rules()
    delegates: dict[str, Delegate] = dataclasses.field(default_factory=lambda: dict(DELEGATES))
    cores: str = "big"
    extra_flags: tuple[str, ...] = ()
    start_seconds: float = 120.0
    lock_seconds: float = 60.0
    libraries: tuple[str, ...] = ()
    variants: dict[str, Variant] = dataclasses.field(default_factory=dict)
    verification: Verification | None = None
    run_model: tuple[str, ...] = ()
    fixed_performance: bool = False
    lock_clocks: float | None = None
    watch_seconds: float = 0.5
    keep_files: bool = False
    session: str = ""

    def __post_init__(self):
        for path in self.libraries:
            if not Path(path).is_file() or not re.fullmatch(r"[\w.+-]+", Path(path).name):
                raise ValueError(
                    "A library must be a file whose name has letters, digits, `.`, `+`, `-` and "
                    f"`_` only. Received: {path!r}"
                )
        if self.cores not in ("big", "all") and not re.fullmatch(r"[0-9a-fA-F]{1,16}", self.cores):
            raise ValueError(
                "cores must be 'big', 'all' or a hexadecimal mask for taskset. "
                f"Received: cores={self.cores!r}"
            )

        if self.lock_clocks is not None and not 0 < self.lock_clocks <= 1:
            raise ValueError(
                "lock_clocks must be a share of the highest clock, in (0, 1]. "
                f"Received: lock_clocks={self.lock_clocks}"
            )
        if self.watch_seconds and self.watch_seconds < 0.05:
            raise ValueError(
                "watch_seconds must be 0 for no samples, or at least 0.05: looking disturbs. "
                f"Received: watch_seconds={self.watch_seconds}"
            )

    def variant(self, name: str) -> Variant:
        """The programs and flags of a cell's variant."""
        return self.variants.get(name) or Variant(self.binaries, self.extra_flags)

    def protocol_of(self, cell: Cell) -> tool_flags.Protocol:
        """How long a run of a cell warms up and measures: a cold start does so once."""
        if cell.kind in (COLD_START, VERIFICATION):
            return tool_flags.Protocol(1, 0.0, 1, 0.0, self.protocol.max_seconds)
        return self.protocol

    @property
    def run_seconds(self) -> float:
        """The limit of one run: both phases to their maximum, and the start."""
        return 2 * self.protocol.max_seconds + self.start_seconds
