"""Lines of a benchmark log, freed of the prefixes that loggers and logcat put before them."""

import re
from typing import NamedTuple

# `adb logcat` in its threadtime, time, brief and tag formats; Android Studio's columns.
_LOGCAT = [
    re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+(?P<pid>\d+)-\d+\s+(?P<tag>\S+)\s+\S+\s+"
        r"(?P<level>[VDIWEFA])(?:  ?(?P<text>.*))?"
    ),
    re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ (?P<pid>\d+)-\d+/\S+ "
        r"(?P<level>[VDIWEFA])/(?P<tag>[^\s:]+): ?(?P<text>.*)"
    ),
    re.compile(
        r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+(?:\S+\s+)?(?P<pid>\d+)\s+\d+ "
        r"(?P<level>[VDIWEFA]) (?P<tag>[^\s:]+)\s*: ?(?P<text>.*)"
    ),
    re.compile(
        r"(?:(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+ )?"
        r"(?P<level>[VDIWEFA])/(?P<tag>[\w.]+)\s*(?:\(\s*(?P<pid>\d+)\))?: ?(?P<text>.*)"
    ),
    re.compile(r"\.\.\. (?P<tag>tflite|litert)\s*: ?(?P<text>.*)"),
]
_LOGGER = re.compile(r"(?P<level>INFO|WARN|WARNING|ERROR|FATAL|VERBOSE|DEBUG): ?(?P<text>.*)")
_PYTHON_LOGGER = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?P<level>INFO|WARNING|ERROR|CRITICAL|DEBUG) "
    r"benchmark_litert_model: ?(?P<text>.*)"
)
# Abseil's log: I0726 12:34:56.789012 12345 run_model.cc:301] text
_ABSEIL_LOGGER = re.compile(
    r"(?P<level>[IWEF])\d{4} \d\d:\d\d:[\d.]{2,20} +\d{1,12} [\w./+-]{1,300}:\d{1,9}\] ?"
    r"(?P<text>.*)"
)
_SOURCE_POSITION = re.compile(r"\[[\w./\\:+-]{1,300}\.(?:h|cc|c|cpp|mm):\d{1,9}\] ?")
# What terminals and build servers put around lines.
_COLOR = re.compile(r"\x1b\[[0-9;]{0,20}m")
_SERVERS_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z ")
_LEVELS = {
    "V": "verbose",
    "D": "verbose",
    "I": "info",
    "W": "warning",
    "E": "error",
    "F": "error",
    "A": "error",
    "VERBOSE": "verbose",
    "DEBUG": "verbose",
    "INFO": "info",
    "WARN": "warning",
    "WARNING": "warning",
    "ERROR": "error",
    "FATAL": "error",
    "CRITICAL": "error",
}
PACKAGE = "org.tensorflow.lite.benchmark"
_CRASH_TAGS = re.compile(r"(?:AndroidRuntime|libc|DEBUG)$")
# Tags of the benchmark and its runtime, and those under which Android reports a crash.
_TAGS = re.compile(r"tflite|litert|native$|AndroidRuntime$|libc$|DEBUG$", re.IGNORECASE)


class Line(NamedTuple):
    """One line of a log.

    Attributes:
        text: the message without prefixes; blanks on the right are cut.
        level: "verbose", "info", "warning" or "error"; None where the line has no prefix.
        complete: False for a last line without line end, which may have been cut.
        pid: the process, where logcat names it.
        tag: logcat's tag.
    """

    text: str
    level: str | None
    complete: bool = True
    pid: str | None = None
    tag: str | None = None


def read_lines(log: str) -> list[Line]:
    """Splits a log into lines; logcat lines of other programs are left out, their crashes, too."""
    if "\x1b" in log:
        log = _COLOR.sub("", log)
    pieces = log.replace("\r\n", "\n").split("\n")
    lines = []
    for number, piece in enumerate(pieces):
        complete = number < len(pieces) - 1
        if not complete and not piece.strip():
            break
        stamp = _SERVERS_TIME.match(piece)
        line = _read_line(piece[stamp.end() if stamp else 0 :].rstrip(), complete)
        if line is not None:
            lines.append(line)
    return _own_lines(lines)


def _own_lines(lines):
    """Without crash reports of processes that did not run the benchmark."""
    if not any(line.tag and _CRASH_TAGS.match(line.tag) for line in lines):
        return lines
    own, reporters = set(), set()
    for line in lines:
        reports_crash = bool(line.tag and _CRASH_TAGS.match(line.tag))
        if line.pid and (PACKAGE in line.text if reports_crash else line.tag):
            own.add(line.pid)
    for line in lines:  # DEBUG is written by a process of its own, which names the one that died
        named = re.match(r"pid: (\d+)", line.text) if line.tag == "DEBUG" else None
        if named and named[1] in own:
            reporters.add(line.pid)
    if not own:
        return lines
    return [
        line
        for line in lines
        if not (line.tag and line.pid and _CRASH_TAGS.match(line.tag))
        or line.pid in own | reporters
    ]


def _read_line(text, complete):
    level = pid = tag = None
    bare = text.lstrip(" ")
    if len(bare) < 5:
        return Line(bare, None, complete)
    for pattern in _LOGCAT:
        match = pattern.fullmatch(bare) if bare[0] in "0123456789VDIWEFA." else None
        if match:
            groups = match.groupdict()
            tag, pid, text = groups["tag"], groups.get("pid"), groups["text"] or ""
            level = _LEVELS.get(groups.get("level"))
            if not _TAGS.match(tag):
                return None
            break
    for pattern in (_PYTHON_LOGGER, _ABSEIL_LOGGER, _LOGGER):
        match = pattern.fullmatch(text.lstrip(" "))
        if match:
            level, text = _LEVELS[match["level"]], match["text"]
            break
    position = _SOURCE_POSITION.match(text)
    if position:
        text = text[position.end() :]
    return Line(text.rstrip(), level, complete, pid, tag)
