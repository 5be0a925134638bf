"""What all runs of a matrix share, whatever target they run on."""

import dataclasses
import re
from pathlib import Path

from keras_hybrid.benchmark.health import device_state
from keras_hybrid.benchmark.targets import tool_flags
from keras_hybrid.benchmark.targets.delegates import DELEGATES, Delegate


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
    fixed_performance: bool = False
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

    @property
    def run_seconds(self) -> float:
        """The limit of one run: both phases to their maximum, and the start."""
        return 2 * self.protocol.max_seconds + self.start_seconds
