"""The flags of the two programs called `benchmark_model`, and how to tell them apart."""

import dataclasses
import re

from keras_hybrid.benchmark.targets.delegates import CLASSIC, LITERT, Delegate

_LISTED_FLAG = re.compile(r"^\s*(?:ERROR: )?--([\w-]+)=", re.MULTILINE)
_TELLTALE = {CLASSIC: ("use_xnnpack", "enable_op_profiling"), LITERT: ("use_profiler", "use_cpu")}


@dataclasses.dataclass(frozen=True)
class Flavour:
    """Which program it is and the flags that it lists (empty if it was not asked)."""

    name: str
    known_flags: frozenset[str] = frozenset()

    def check(self, flags: tuple[str, ...]) -> None:
        """Refuses flags that the program would ignore with a mere warning.

        Raises:
            ValueError: for a flag that is not `--name=value` or that the program does not list.
        """
        for flag in flags:
            match = re.fullmatch(r"--([\w-]+)=.*", flag, re.DOTALL)
            if not match:
                raise ValueError(f"Flags must be of the form --name=value. Received: {flag!r}")
            if self.known_flags and match[1] not in self.known_flags:
                raise ValueError(
                    f"The flag --{match[1]} is unknown to this benchmark_model ({self.name}), "
                    f"which would ignore it. Received: {flag!r}"
                )


def detect_flavour(help_output: str) -> Flavour:
    """Tells from the output of `benchmark_model --help` which program it is.

    Raises:
        ValueError: if it is neither.
    """
    known = frozenset(_LISTED_FLAG.findall(help_output))
    for name, telltale in _TELLTALE.items():
        if known.issuperset(telltale):
            return Flavour(name, known)
    raise ValueError(
        "The binary must be TensorFlow Lite's or LiteRT's benchmark_model. Received this answer "
        f"to --help: {help_output.strip()[:300]!r}"
    )


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How long one run warms up and measures; the defaults are the tools' own, but longer."""

    warmup_runs: int = 5
    warmup_seconds: float = 0.5
    min_runs: int = 50
    min_seconds: float = 1.0
    max_seconds: float = 60.0

    def __post_init__(self):
        if self.warmup_runs < 1 or self.min_runs < 1 or self.max_seconds < self.min_seconds:
            raise ValueError(
                "warmup_runs >= 1, min_runs >= 1 and max_seconds >= min_seconds are expected. "
                f"Received: {self}"
            )


def _name(flag):
    return flag.partition("=")[0].removeprefix("--")


def command_flags(
    flavour: Flavour,
    protocol: Protocol,
    delegate: Delegate,
    *,
    graph: str,
    num_threads: int,
    profile: bool = False,
    extra: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The flags of one run; one of `extra` takes the place of one of the same name.

    Raises:
        ValueError: if the program cannot do it or would ignore a flag, or if `extra` holds what
            the matrix decides.
    """
    if flavour.name not in delegate.flags:
        able = sorted(delegate.flags)
        raise ValueError(
            f"The delegate {delegate.name!r} needs a benchmark_model of flavour {able}. Received: "
            f"one of flavour {flavour.name!r}"
        )
    flags = [
        f"--graph={graph}",
        f"--num_threads={num_threads}",
        f"--warmup_runs={protocol.warmup_runs}",
        f"--warmup_min_secs={protocol.warmup_seconds:g}",
        f"--num_runs={protocol.min_runs}",
        f"--min_secs={protocol.min_seconds:g}",
        f"--max_secs={protocol.max_seconds:g}",
        *delegate.flags[flavour.name],
    ]
    if profile:
        flags.append(
            "--enable_op_profiling=true" if flavour.name == CLASSIC else "--use_profiler=true"
        )
        flags += [
            f"--{name}={value}"
            for name, value in (
                ("max_profiling_buffer_entries", "8192"),
                ("allow_dynamic_profiling_buffer_increase", "true"),
            )
            if name in flavour.known_flags
        ]
    if "report_peak_memory_footprint" in flavour.known_flags and not profile:
        flags.append("--report_peak_memory_footprint=true")
    replaced = {_name(flag) for flag in extra}
    if replaced & {"graph", "num_threads"}:
        raise ValueError(
            f"Model and threads are not given as extra flags. Received: extra={list(extra)}"
        )
    flags = [flag for flag in flags if _name(flag) not in replaced] + list(extra)
    flavour.check(tuple(flags))
    return tuple(flags)


# Where a delegate keeps what it compiled; without these flags it keeps nothing that is known of.
_CACHES = (
    "delegate_serialize_dir",
    "gpu_serialization_dir",
    "compiler_cache_path",
    "xnnpack_weight_cache_file_path",
)


def cache_flags(flags: tuple[str, ...]) -> dict[str, str]:
    """The state of delegates' caches that the flags of a run stand for, as rows write it."""
    given = [flag for flag in flags if _name(flag) in _CACHES and not flag.endswith("=")]
    kept = f"kept between runs by {' '.join(given)}"
    return {"delegate_cache": kept if given else "none asked for; a driver may keep its own"}


def output_flags(
    flavour: Flavour,
    protocol: Protocol,
    delegate: Delegate,
    *,
    graph: str,
    num_threads: int,
    shape: tuple[int, ...],
    input_path: str,
    output_path: str,
    extra: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The flags of one run on an input from a file that writes the outputs to another.

    Raises:
        ValueError: if the program cannot do so, or for what `command_flags` refuses.
    """
    needed = {"input_layer", "input_layer_shape", "input_layer_value_files", "output_filepath"}
    lacking = sorted(needed - flavour.known_flags)
    if lacking:
        raise ValueError(
            f"This benchmark_model ({flavour.name}) writes no outputs: verify with a newer one of "
            "TensorFlow Lite's, or give LiteRT's run_model with --run_model. Received: one without "
            f"{lacking}"
        )
    replaced = ("num_runs", "min_secs", "warmup_runs", "warmup_min_secs", "run_frequency")
    return (
        *command_flags(
            flavour,
            protocol,
            delegate,
            graph=graph,
            num_threads=num_threads,
            extra=tuple(flag for flag in extra if _name(flag) not in replaced),
        ),
        "--input_layer=input",
        f"--input_layer_shape={','.join(map(str, shape))}",
        f"--input_layer_value_files=input:{input_path}",
        f"--output_filepath={output_path}",
    )
