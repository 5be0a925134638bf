"""The flags of the two programs called `benchmark_model`, and how to tell them apart."""

import dataclasses
import re
import shlex

CLASSIC = "classic"  # TensorFlow Lite's, now LiteRT's //tflite/tools/benchmark
LITERT = "litert"  # LiteRT 2.x's //litert/tools

_LISTED_FLAG = re.compile(r"^\s*(?:ERROR: )?--([\w-]+)=", re.MULTILINE)
_TELLTALE = {CLASSIC: ("use_xnnpack", "enable_op_profiling"), LITERT: ("use_profiler", "use_cpu")}


@dataclasses.dataclass(frozen=True)
class Delegate:
    """What to run on, in the words of each program.

    Args:
        name: the user's word for it.
        flags: by flavour; a flavour that is missing cannot do it.
        expected: a regular expression for the delegate's name in the log; None if the log need
            not name one.
        libraries: names of the vendor's libraries that it needs beside the program, given with
            --library; `{folder}` in a flag stands for where they lie on the phone.
        required: whether a log that does not name the delegate means that it did not run.
    """

    name: str
    flags: dict[str, tuple[str, ...]]
    expected: str | None = None
    required: bool = True
    libraries: tuple[str, ...] = ()


DELEGATES = {
    "cpu": Delegate(
        "cpu",
        {CLASSIC: ("--use_xnnpack=true",), LITERT: ("--use_cpu=true",)},
        "XNNPACK",
        required=False,  # Linux builds do not log it
    ),
    "builtin": Delegate("builtin", {CLASSIC: ("--use_xnnpack=false",)}),
    "gpu": Delegate(
        "gpu", {CLASSIC: ("--use_gpu=true",), LITERT: ("--use_gpu=true",)}, "GPU|LITERT_CL|DRIFT"
    ),
    "nnapi": Delegate("nnapi", {CLASSIC: ("--use_nnapi=true",)}, "NNAPI"),
    "npu": Delegate("npu", {LITERT: ("--use_npu=true",)}, "NPU|Dispatch"),
    # Vendors' own, from their documentation; none could be tried on a device here.
    "dispatch": Delegate(
        "dispatch",
        {LITERT: ("--use_npu=true", "--dispatch_library_path={folder}")},
        "NPU|Dispatch",
        libraries=("libLiteRtDispatch",),
    ),
    "qnn": Delegate(
        "qnn",
        {
            CLASSIC: (
                "--external_delegate_path={folder}/libQnnTFLiteDelegate.so",
                "--external_delegate_options=backend_type:htp",
            )
        },
        "QNN|EXTERNAL",
        libraries=("libQnnTFLiteDelegate.so", "libQnnHtp"),
    ),
    "neuron": Delegate(
        "neuron",
        {CLASSIC: ("--external_delegate_path={folder}/libneuron_stable_delegate.so",)},
        "Neuron|EXTERNAL",
        libraries=("libneuron_stable_delegate.so",),
    ),
    "ethosu": Delegate(
        "ethosu",
        {CLASSIC: ("--external_delegate_path={folder}/libethosu_delegate.so",)},
        "Ethos|EXTERNAL",
        libraries=("libethosu_delegate.so",),
    ),
}


def custom_delegate(definition: str) -> Delegate:
    """A delegate from `NAME[:EXPECTED] --flag=value ...`, quoted as for a shell.

    Args:
        definition: e.g. `dsp:Hexagon --use_hexagon=true "--hexagon_lib_path=/a b"`. EXPECTED is
            (a part of) the delegate's name in the log; without it the log is not asked.

    Raises:
        ValueError: if it is not of this form, or takes a built-in delegate's name.
    """
    try:
        name, *flags = shlex.split(definition)
        name, _, expected = name.partition(":")
    except ValueError:
        name, flags = "", []
    valid = re.fullmatch(r"[\w.+-]+", name) and flags and all(f.startswith("--") for f in flags)
    if not valid or name in DELEGATES:
        raise ValueError(
            "A delegate is defined as 'NAME[:EXPECTED] --flag=value ...' with a NAME other than "
            f"{sorted(DELEGATES)}. Received: {definition!r}"
        )
    flags = tuple(flags)
    pattern = re.escape(expected) if expected else None
    return Delegate(name, {CLASSIC: flags, LITERT: flags}, pattern)


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
