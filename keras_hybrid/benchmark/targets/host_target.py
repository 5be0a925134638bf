"""This machine as a target of the matrix: LiteRT's interpreter, or a host `benchmark_model`."""

import dataclasses
import os
import platform
import subprocess

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.rows import SUSTAINED, Row
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.host import (
    INTERPRETER_KERNELS,
    MAX_SPREAD,
    benchmark_host,
    command_of_request,
)
from keras_hybrid.benchmark.targets.host_profile import profile_host
from keras_hybrid.benchmark.targets.options import Options
from keras_hybrid.benchmark.targets.target import Stopwatch, Target
from keras_hybrid.benchmark.verdict import judge


class Host(Target):
    """Runs cells on this machine, through the interpreter unless `options` has a binary."""

    target = "host"
    name = "host"
    runs_on_this_machine = True

    def __init__(self, options: Options):
        self.options = options
        self.session = options.session
        self.device = provenance.host_device()
        self._path = next(iter(options.binaries), None)
        self.flavour: tool_flags.Flavour | None = None
        self.binary = provenance.host_runtime()
        self.program = "benchmark_model" if options.binaries else self.binary["name"]

    def prepare(self, cells: list[Cell]) -> None:
        """Checks that the runs of `cells` are possible here.

        Raises:
            ValueError: if they are not.
        """
        path = self._path
        if path is None:
            impossible = sorted({cell.delegate for cell in cells} - set(INTERPRETER_KERNELS))
            impossible += [
                f"a profile of {cell.delegate}"
                for cell in cells
                if cell.kind == "profile" and cell.delegate != "cpu"
            ]
            if impossible:
                raise ValueError(
                    f"LiteRT on this machine runs {INTERPRETER_KERNELS} and profiles cpu: give a "
                    "host benchmark_model with --host_binary. Received: "
                    f"delegates={impossible}"
                )
            if self.options.extra_flags:
                raise ValueError(
                    "Extra flags need a benchmark_model: give --host_binary. Received: "
                    f"extra_flags={self.options.extra_flags}"
                )
            return
        binaries.check_for_host(path, platform.machine())
        answer = self._call(["--help"], 60.0)[0]
        self.flavour = tool_flags.detect_flavour(answer)
        self.binary = {
            "name": self.program,
            "flavour": self.flavour.name,
            "sha256": provenance.sha256(path),
            "version": None,
        }
        for cell in cells:
            self._flags(cell)

    def _flags(self, cell):
        delegate = self.options.delegates[cell.delegate]
        if delegate.libraries:
            raise ValueError(
                f"The delegate {delegate.name!r} needs a phone's libraries. Received: target=host"
            )
        return tool_flags.command_flags(
            self.flavour,
            self.options.protocol,
            self.options.delegates[cell.delegate],
            graph=cell.model.path,
            num_threads=cell.num_threads,
            profile=cell.kind == "profile",
            extra=self.options.extra_flags,
        )

    def _call(self, flags, limit):
        """Output, exit status and a note if the program was too late."""
        try:
            done = subprocess.run(
                [self._path, *flags],
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
        if self.flavour is not None:
            return {"command": self._flags(cell)}
        return {"command": command_of_request(self._request(cell) | {"max_spread": MAX_SPREAD})}

    def _request(self, cell):
        protocol = self.options.protocol
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
        if self.flavour is None and cell.kind == "profile":
            before, watch = provenance.host_state(), Stopwatch()
            fields, log = profile_host(
                cell.model.path, cell.num_threads, runs=self.options.protocol.min_runs
            )
            row = self.make_row(
                cell,
                repetition,
                state_before=before,
                state_after=provenance.host_state(),
                **self.describe_run(cell),
                **watch.fields(),
                **fields,
            )
            return self._mark_if_busy(row), log
        if self.flavour is None:
            row = benchmark_host(
                cell.model.path,
                **self._request(cell),
                repetition=repetition,
                session=self.options.session,
            )
            row = dataclasses.replace(row, kind=cell.kind)
            return self._mark_if_busy(row), ""
        before = provenance.host_state()
        watch = Stopwatch()
        flags = self._flags(cell)
        log, exit_status, late = self._call(flags, self.options.run_seconds)
        fields = judge(
            log,
            exit_status=exit_status,
            delegate=self.options.delegates[cell.delegate],
            num_threads=cell.num_threads,
        )
        if late:
            fields["status"] = "failed"
            fields["notes"] = (late, *fields["notes"])
        row = self.make_row(
            cell,
            repetition,
            state_before=before,
            state_after=provenance.host_state(),
            command=flags,
            **watch.fields(),
            **fields,
        )
        return self._mark_if_busy(row), log

    def _mark_if_busy(self, row):
        """A row that began while the machine had other work is no measurement."""
        load, cores = row.state_before.get("load"), os.cpu_count() or 1
        if (
            row.kind == SUSTAINED
            or row.status != "ok"
            or (load or 0) <= self.options.rules.max_load_per_core * cores
        ):
            return row
        note = f"before: load {load:g} on {cores} cores"
        return dataclasses.replace(row, status="throttled", notes=(*row.notes, note))
