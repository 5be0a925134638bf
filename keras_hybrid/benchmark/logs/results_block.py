"""The block of results in milliseconds that LiteRT 2.x and `litert-benchmark` print."""

import re

from keras_hybrid.benchmark.logs.lines import Line

_N = r"(-?\d{1,30}\.\d{1,30})"
_COMMENT = r"(?:\s{1,40}#.*)?"
_TITLE = re.compile(r"=* ?BENCHMARK RESULTS ?=*")
_RULE = re.compile(r"={20,}")
_LINES = {
    name: re.compile(pattern + _COMMENT)
    for name, pattern in {
        "init_ms": rf"Model initialization:\s+{_N} ms",
        "first_ms": rf"(?:Warmup \(first\)|First inference):\s+{_N} ms",
        "warmup": rf"Warmup \(avg\):\s+{_N} ms \((\d{{1,12}}) runs\)",
        "inference": rf"Inference \(avg\):\s+{_N} ms \((\d{{1,12}}) runs\)",
        "min_ms": rf"Inference \(min\):\s+{_N} ms",
        "max_ms": rf"Inference \(max\):\s+{_N} ms",
        "median_ms": rf"Inference \(median\):\s+{_N} ms",
        "std_ms": rf"Inference \(std\):\s+{_N}(?: ms)?",
        "p5_ms": rf"Inference \(p5\):\s+{_N} ms",
        "p95_ms": rf"Inference \(p95\):\s+{_N} ms",
        "init_memory_mb": rf"Init footprint:\s+{_N} MB",
        "overall_memory_mb": rf"Overall footprint:\s+{_N} MB",
        "peak_memory_mb": rf"Peak memory:\s+{_N} MB",
    }.items()
}
_NO_RUNS = "No inference runs were performed."


class ResultsBlock:
    """The figures of one results block.

    Attributes:
        values: figures by the names of `Row`'s fields.
        closed: whether the block's last line was seen.
        broken: lines of the block that are not understood.
        blocks: how many blocks the log holds.
    """

    def __init__(self, lines: list[Line]):
        self.values: dict[str, float | int] = {}
        self.closed = False
        self.broken: list[str] = []
        self.blocks = 0
        self.python = False
        inside = False
        for number, line in enumerate(lines):
            text = line.text.strip()
            if not inside and "BENCHMARK RESULTS" not in text:
                continue
            if _TITLE.fullmatch(text):
                self.blocks += 1
                inside, self.closed = True, False
                self.python = not text.startswith("=")
            elif inside and _RULE.fullmatch(text) and line.complete:
                under_title = self.python and _TITLE.fullmatch(lines[number - 1].text.strip())
                if not under_title:
                    inside, self.closed = False, True
            elif inside:
                self._read(text, line.complete)

    def _read(self, text, complete):
        for name, pattern in _LINES.items():
            match = pattern.fullmatch(text)
            if not match:
                continue
            if name == "std_ms" and not complete and not text.endswith("ms"):
                return
            figures = {name: float(match[1])}
            if name in ("warmup", "inference"):
                prefix = {"warmup": "warmup_ms", "inference": "mean_ms"}[name]
                runs = {"warmup": "warmup_runs", "inference": "runs"}[name]
                figures = {prefix: float(match[1]), runs: int(match[2])}
            for key, value in figures.items():
                if self.values.get(key, value) != value:
                    self.broken.append(text)
                self.values[key] = value
            return
        if text == _NO_RUNS:
            self.values["runs"] = 0
        elif complete and text.startswith(("Inference (", "Warmup (", "Model initialization")):
            self.broken.append(text)
