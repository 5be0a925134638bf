"""This machine as a target of the matrix: LiteRT's interpreter, or a host `benchmark_model`."""

import dataclasses
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.health.host_watch import drop_pages, watch_host
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.rows import COLD_START, SUSTAINED, VERIFICATION, Row
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.host import (
    INTERPRETER_KERNELS,
    MAX_SPREAD,
    command_of_request,
    time_on_host,
)
from keras_hybrid.benchmark.targets.host_profile import profile_host
from keras_hybrid.benchmark.targets.options import Options
from keras_hybrid.benchmark.targets.target import Stopwatch, Target
from keras_hybrid.benchmark.verdict import judge
from keras_hybrid.benchmark.verification.cases import ask_worker
from keras_hybrid.benchmark.verification.check import Answer, verify


class Host(Target):
    """Runs cells on this machine, through the interpreter unless `options` has a binary."""

    target = "host"
    name = "host"
    runs_on_this_machine = True

    def __init__(self, options: Options):
        self.options = options
        self.session = options.session
        self.device = provenance.host_device()
        self._flavours: dict[str, tool_flags.Flavour] = {}
        self.binary = provenance.host_runtime()
        self.program = "benchmark_model" if options.binaries else self.binary["name"]

    def _path(self, variant):
        """The `benchmark_model` of a variant; None for the interpreter."""
        return next(iter(self.options.variant(variant).binaries), None)

    def prepare(self, cells: list[Cell]) -> None:
        """Checks that the runs of `cells` are possible here.

        Raises:
            ValueError: if they are not.
        """
        variants = sorted({cell.variant for cell in cells})
        if len({self._path(variant) is None for variant in variants}) > 1:
            raise ValueError(
                "Two programs are compared with each other, not one with the interpreter: give "
                "--host_binary beside --b_binary. Received: one program"
            )
        for variant in variants:
            own = [cell for cell in cells if cell.variant == variant]
            path = self._path(variant)
            if path is None:
                self._check_interpreter(own)
                continue
            binaries.check_for_host(path, platform.machine())
            answer = self._call(path, ["--help"], 60.0)[0]
            self._flavours[variant] = tool_flags.detect_flavour(answer)
            for cell in own:
                self._flags(cell)
        self.binary = self._binary(cells[0].variant if cells else "")

    def _binary(self, variant):
        """What rows say of the program of a variant."""
        if variant not in self._flavours:
            return provenance.host_runtime()
        return {
            "name": self.program,
            "flavour": self._flavours[variant].name,
            "sha256": provenance.sha256(self._path(variant)),
            "version": None,
        }

    def _check_interpreter(self, cells):
        impossible = sorted({cell.delegate for cell in cells} - set(INTERPRETER_KERNELS))
        impossible += [
            f"a profile of {cell.delegate}"
            for cell in cells
            if cell.kind == "profile" and cell.delegate != "cpu"
        ]
        if impossible:
            raise ValueError(
                f"LiteRT on this machine runs {INTERPRETER_KERNELS} and profiles cpu: give a "
                f"host benchmark_model with --host_binary. Received: delegates={impossible}"
            )
        flags = self.options.variant(cells[0].variant).extra_flags
        if flags:
            raise ValueError(
                "Extra flags need a benchmark_model: give --host_binary. Received: "
                f"extra_flags={flags}"
            )

    def _flags(self, cell):
        delegate = self.options.delegates[cell.delegate]
        if delegate.libraries:
            raise ValueError(
                f"The delegate {delegate.name!r} needs a phone's libraries. Received: target=host"
            )
        common = {
            "graph": cell.model.path,
            "num_threads": cell.num_threads,
            "extra": self.options.variant(cell.variant).extra_flags,
        }
        flavour, protocol = self._flavours[cell.variant], self.options.protocol_of(cell)
        if cell.kind == VERIFICATION:
            return tool_flags.output_flags(
                flavour,
                protocol,
                delegate,
                shape=self._cases(cell).input.shape,
                input_path="{input}",
                output_path="{output}",
                **common,
            )
        return tool_flags.command_flags(
            flavour, protocol, delegate, profile=cell.kind == "profile", **common
        )

    def _cases(self, cell):
        verification = self.options.verification
        if verification is None or cell.model.sha256 not in verification.cases:
            raise ValueError(f"A verification needs cases. Received: none for {cell.model.name}")
        return verification.cases[cell.model.sha256]

    @staticmethod
    def _call(path, flags, limit):
        """Output, exit status and a note if the program was too late."""
        try:
            done = subprocess.run(
                [path, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
                start_new_session=True,  # Ctrl-C is for the harness, which ends runs in order
            )
        except subprocess.TimeoutExpired as error:
            output = (error.stdout or b"").decode("utf-8", "replace")
            return output, None, f"the program did not end within {limit:g} s and was stopped"
        return done.stdout.decode("utf-8", "replace"), done.returncode, None

    def describe_run(self, cell: Cell) -> dict:
        if cell.variant in self._flavours:
            command = self._flags(cell)
        else:
            request = self._request(cell) | {"max_spread": MAX_SPREAD}
            command = command_of_request(request)
        if cell.kind == VERIFICATION:
            command = (*command, f"inputs={self._cases(cell).checksum[:16]}")
        return {"binary": self._binary(cell.variant), "command": command}

    def _request(self, cell):
        protocol = self.options.protocol_of(cell)
        return {
            "num_threads": cell.num_threads,
            "delegate": cell.delegate,
            "warmup_runs": protocol.warmup_runs,
            "warmup_seconds": protocol.warmup_seconds,
            "min_runs": protocol.min_runs,
            "min_seconds": protocol.min_seconds,
            "max_seconds": protocol.max_seconds,
        }

    def run(self, cell: Cell, repetition: int) -> tuple[Row, str]:
        """One run of one cell: its row and the program's output ("" for the interpreter)."""
        before, watch = provenance.host_state(), Stopwatch()
        log, late = "", None
        caches = {"page_cache": "as left by earlier runs"}
        if cell.kind == COLD_START:
            caches["page_cache"] = drop_pages(cell.model.path)
        with watch_host(self.options.watch_seconds) as during:
            if cell.kind == VERIFICATION:
                fields, log = self._verify(cell)
            elif cell.variant in self._flavours:
                flags = self._flags(cell)
                caches |= tool_flags.cache_flags(flags)
                log, exit_status, late = self._call(
                    self._path(cell.variant), flags, self.options.run_seconds
                )
                fields = judge(
                    log,
                    exit_status=exit_status,
                    delegate=self.options.delegates[cell.delegate],
                    num_threads=cell.num_threads,
                )
            elif cell.kind == "profile":
                fields, log = profile_host(
                    cell.model.path, cell.num_threads, runs=self.options.protocol.min_runs
                )
            else:
                fields = time_on_host(cell.model.path, **self._request(cell))
        if late:
            fields["status"] = "failed"
            fields["notes"] = (late, *fields["notes"])
        row = self.make_row(
            cell,
            repetition,
            state_before=before,
            state_after=provenance.host_state(),
            during=during,
            caches=caches,
            **self.describe_run(cell),
            **watch.fields(),
            **fields,
        )
        return self._mark_if_busy(row), log

    def _verify(self, cell):
        cases = self._cases(cell)
        verification = self.options.verification
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder, f"{n}.out") for n in range(len(cases.inputs))]
            if cell.variant not in self._flavours:
                request = {
                    "model": cell.model.path,
                    "num_threads": cell.num_threads,
                    "xnnpack": cell.delegate == "cpu",
                    "inputs": list(map(str, cases.inputs)),
                    "outputs": list(map(str, outputs)),
                }
                try:
                    ask_worker("run", request)
                except ValueError as error:
                    return {"status": "failed", "notes": (str(error),)}, ""

            def run_case(number):
                log, status, late = None, 0, None
                if cell.variant in self._flavours:
                    paths = {"{input}": cases.inputs[number], "{output}": outputs[number]}
                    flags = list(self._flags(cell))
                    for word, path in paths.items():
                        flags = [flag.replace(word, str(path)) for flag in flags]
                    log, status, late = self._call(
                        self._path(cell.variant), flags, self.options.run_seconds
                    )
                content = outputs[number].read_bytes() if outputs[number].is_file() else None
                return Answer(content, log, status, late or "")

            return verify(
                cases,
                verification.limits,
                self.options.delegates[cell.delegate],
                cell.num_threads,
                run_case,
            )

    def _mark_if_busy(self, row):
        """A row that began while the machine had other work is no measurement."""
        load, cores = row.state_before.get("load"), os.cpu_count() or 1
        if (
            row.kind in (SUSTAINED, VERIFICATION)
            or row.status != "ok"
            or (load or 0) <= self.options.rules.max_load_per_core * cores
        ):
            return row
        note = f"before: load {load:g} on {cores} cores"
        return dataclasses.replace(row, status="throttled", notes=(*row.notes, note))
