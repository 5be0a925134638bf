"""What a phone computes of given inputs: by `benchmark_model`, or by LiteRT's `run_model`."""

import re
import struct
import tempfile
from pathlib import Path

from keras_hybrid.benchmark.logs.lines import read_lines
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.rows import Row
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.adb import AdbError
from keras_hybrid.benchmark.targets.delegates import LITERT
from keras_hybrid.benchmark.targets.target import Stopwatch
from keras_hybrid.benchmark.verification.cases import Cases
from keras_hybrid.benchmark.verification.check import Answer, verify

_INPUTS = "{folder}/verify"
_OUTPUT = "{folder}/verify.out"
_BUFFER = re.compile(r"(Input|Output) buffer (\d{1,4}):")
_VALUE = re.compile(r"(\d{1,12}): (-?(?:\d[\d.]*(?:e[-+]?\d+)?|inf|nan))", re.IGNORECASE)
_FORMATS = {"float32": "f", "int32": "i", "int8": "b", "uint8": "B"}
# run_model's words for flags of LiteRT's benchmark_model.
_RENAMED = {
    "--dispatch_library_path": "--dispatch_library_dir",
    "--compiler_plugin_library_path": "--compiler_plugin_library_dir",
}


class PhoneOutputs:
    """Runs a phone's programs on inputs from files and reads what they compute.

    Args:
        phone: a `Phone`.
    """

    def __init__(self, phone):
        self.phone = phone
        self._run_model = ""

    def prepare(self, abis: list[str]) -> None:
        """Brings LiteRT's `run_model`, where there is one.

        Raises:
            ValueError: if it is for another processor, or is another program.
        """
        reasons = []
        for path in self.phone.options.run_model:
            try:
                binaries.check_for_android(path, abis)
            except ValueError as error:
                reasons.append(str(error))
                continue
            self._run_model = self.phone.files.bring_program(path, "run_model")
            answer = self.phone.files.ask_for_help(self._run_model)
            if "compare_numerical" not in answer or "input_dir" not in answer:
                raise ValueError(
                    "run_model must be LiteRT's //litert/tools:run_model that knows --input_dir. "
                    f"Received: {path}, which answers {answer.strip()[:200]!r}"
                )
            return
        if reasons:
            raise ValueError("; ".join(reasons))

    def flags(self, cell: Cell) -> tuple[str, ...]:
        """The flags of a run on one input; `{folder}` stands for the phone's folder.

        Raises:
            ValueError: if there is no program that shows outputs for this delegate.
        """
        cases = self._cases(cell)
        flavour = self.phone.flavour_of(cell)
        if flavour.name != LITERT:
            return tool_flags.output_flags(
                flavour,
                self.phone.options.protocol_of(cell),
                self.phone.options.delegates[cell.delegate],
                graph=self.phone.remote_path(cell.model),
                num_threads=cell.num_threads,
                shape=cases.input.shape,
                input_path=f"{_INPUTS}/{cases.input.name}.raw",
                output_path=_OUTPUT,
                extra=self.phone.options.variant(cell.variant).extra_flags,
            )
        delegate = self.phone.options.delegates[cell.delegate]
        if not self.phone.options.run_model or delegate.accelerator is None:
            raise ValueError(
                "LiteRT's benchmark_model writes no outputs: verify the delegates cpu, gpu and npu "
                "with LiteRT's //litert/tools:run_model, given with --run_model. Received: "
                f"delegate={cell.delegate!r}, run_model={list(self.phone.options.run_model)}"
            )
        others = [
            f"{_RENAMED[name]}={value}"
            for name, _, value in (flag.partition("=") for flag in delegate.flags[LITERT])
            if name in _RENAMED
        ]
        largest = max(_count(tensor.shape) for tensor in cases.outputs)
        return (
            f"--graph={self.phone.remote_path(cell.model)}",
            f"--accelerator={delegate.accelerator}",
            *others,
            f"--input_dir={_INPUTS}",
            "--print_tensors=true",
            "--compare_numerical=true",
            f"--sample_size={largest}",
        )

    def inputs_word(self, cell: Cell) -> str:
        """What a row's `command` says of the inputs: with others it is another verification."""
        return f"inputs={self._cases(cell).checksum[:16]}"

    def _cases(self, cell) -> Cases:
        verification = self.phone.options.verification
        if verification is None or cell.model.sha256 not in verification.cases:
            raise ValueError(f"A verification needs cases. Received: none for {cell.model.name}")
        cases = verification.cases[cell.model.sha256]
        if not re.fullmatch(r"[\w.-]+", cases.input.name):
            raise ValueError(
                "An input is verified whose name has letters, digits, `.`, `-` and `_` only. "
                f"Received: {cases.input.name!r}"
            )
        return cases

    def verify(self, cell: Cell, repetition: int) -> tuple[Row, str]:
        """One verification: its row and all logs.

        Raises:
            AdbError: if the phone goes away.
        """
        phone, cases = self.phone, self._cases(cell)
        before, watch = phone.state(), Stopwatch()
        flags = phone.flags(cell)
        run_model = phone.flavour_of(cell).name == LITERT
        program = self._run_model if run_model else phone.program_of(cell)
        with tempfile.TemporaryDirectory() as folder:

            def run_case(number):
                remote = flags_path(flags, "--input_dir" if run_model else None)
                self._push(cases, number, remote)
                log, status, late, _ = phone.execute(flags, None, program)
                if run_model:
                    output = read_outputs(log, cases) if status == 0 else None
                else:
                    output = self._fetch(flags_path(flags, "--output_filepath"), folder)
                return Answer(output, log, status, late or "", timed=not run_model)

            fields, log = verify(
                cases,
                phone.options.verification.limits,
                phone.options.delegates[cell.delegate],
                cell.num_threads,
                run_case,
            )
        row = phone.make_row(
            cell,
            repetition,
            state_before=before.as_dict(),
            **phone.describe_run(cell),
            **watch.fields(),
            **fields,
        )
        return row, log

    def _push(self, cases, number, remote):
        """Puts an input where the program looks for it, and the last output out of the way."""
        path = f"{remote}/{cases.input.name}.raw"
        self.phone.adb.script(f"mkdir -p {remote}; rm -f {remote}.out")
        self.phone.adb.push(cases.inputs[number], path)
        self.phone.adb.run(["chmod", "644", path])
        self.phone.files.remember(remote, f"{remote}.out")

    def _fetch(self, remote, folder):
        """The bytes that the program wrote, None if it wrote none."""
        if self.phone.adb.run(["test", "-s", remote]).status:
            return None
        local = Path(folder, "output.bin")
        local.unlink(missing_ok=True)
        try:
            self.phone.adb.pull(remote, local)
        except AdbError as error:
            if error.device_is_lost:
                raise
            return None
        return local.read_bytes()


def flags_path(flags: tuple[str, ...], name: str | None) -> str:
    """The value of a flag; without a name the folder of the input's file."""
    if name is not None:
        return next(f.partition("=")[2] for f in flags if f.startswith(f"{name}="))
    files = next(f for f in flags if f.startswith("--input_layer_value_files="))
    return files.partition(":")[2].rpartition("/")[0]


def read_outputs(log: str, cases: Cases) -> bytes | None:
    """The outputs in a log of LiteRT's `run_model`, None if they are not all there.

    It prints the signature's outputs; several are told apart by their number of values.
    """
    values: dict[int, dict[int, float]] = {}
    current = None
    for line in read_lines(log):
        text = line.text.strip()
        if match := _BUFFER.fullmatch(text):
            current = values.setdefault(int(match[2]), {}) if match[1] == "Output" else None
        elif current is not None and (match := _VALUE.fullmatch(text)):
            current[int(match[1])] = float(match[2])
    by_count = {len(found): found for found in values.values()}
    if len(by_count) != len(cases.outputs) or len(values) != len(cases.outputs):
        return None
    content = b""
    for tensor in cases.outputs:
        count = _count(tensor.shape)
        found, form = by_count.get(count), _FORMATS.get(tensor.dtype)
        if found is None or form is None or sorted(found) != list(range(count)):
            return None
        numbers = [found[index] for index in range(count)]
        if form != "f":  # what is no float32 or int32 is printed as bytes without a sign
            numbers = [int(n) - 256 if form == "b" and n > 127 else int(n) for n in numbers]
        content += struct.pack(f"<{count}{form}", *numbers)
    return content


def _count(shape):
    count = 1
    for size in shape:
        count *= size
    return count
