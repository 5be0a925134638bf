"""Rows of logs that were made elsewhere: device farms, colleagues, issue reports."""

import datetime
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.logs.parser import parse_log
from keras_hybrid.benchmark.rows import Row
from keras_hybrid.benchmark.targets.delegates import Delegate
from keras_hybrid.benchmark.verdict import judge


def import_logs(
    paths: Iterable[str], delegate: Delegate, *, device: str = "imported", session: str = ""
) -> list[Row]:
    """Reads logs with the same mistrust as the session's own; every log gives a row.

    Args:
        paths: of text files, each the whole output of one run.
        delegate: what the runs were meant for; a log that shows another is `fell_back`.
        device: what to call the device: a log does not tell it.

    Returns:
        Rows with the target "imported". Logs of the same model and threads are repetitions. The
        name of the model is the one in the log, else the file's.

    Raises:
        ValueError: if a path is no file.
    """
    rows: list[Row] = []
    counts: dict[tuple, int] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise ValueError(f"A log must be a file. Received: {str(path)!r}")
        log = path.read_text(encoding="utf-8", errors="replace")
        report = parse_log(log)
        graph = report.parameters.get("Graph", "")
        threads = report.parameters.get("Num threads", "")
        known = threads.isdigit() and int(threads) > 0
        num_threads = int(threads) if known else 1
        fields = judge(log, exit_status=None, delegate=delegate, num_threads=None)
        notes = list(fields.pop("notes"))
        if not known:
            notes.append("the log does not tell the number of threads")
        model = PurePosixPath(graph).name or path.name
        key = (model, num_threads)
        counts[key] = counts.get(key, -1) + 1
        rows.append(
            Row(
                model=model,
                num_threads=num_threads,
                target="imported",
                delegate=delegate.name,
                repetition=counts[key],
                notes=(*notes, f"imported from {path.name}"),
                device={"serial": device},
                binary={"name": "benchmark_model", "flavour": report.flavour},
                started=_modified(path),
                session=session,
                **provenance.harness(),
                **fields,
            )
        )
    return rows


def _modified(path):
    moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds")
