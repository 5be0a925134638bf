"""The route through the benchmark app: `am start`, then reading `logcat`.

An app is scheduled by other rules than a program of the shell; the authors of the tool call this
route the better gauge. It has no exit status, no standard output and no table of operators.
"""

import time
import zipfile

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.health.watch import LOOK_ONCE, read_samples
from keras_hybrid.benchmark.logs.lines import PACKAGE
from keras_hybrid.benchmark.logs.parser import parse_log
from keras_hybrid.benchmark.targets import tool_flags
from keras_hybrid.benchmark.targets.adb import AdbError
from keras_hybrid.benchmark.targets.phone import Phone
from keras_hybrid.benchmark.targets.phone_files import FOLDER

ACTIVITY = f"{PACKAGE}/.BenchmarkModelActivity"
_TAGS = ("tflite:V", "litert:V", "native:V", "tflite_BenchmarkModelActivity:V")
_CRASH_TAGS = ("AndroidRuntime:E", "libc:F", "DEBUG:F")
_ENDS = (
    "Benchmarking failed",
    "Failed to ",
    "FATAL EXCEPTION",
    "Fatal signal",
    "failed to prepare",
)


def check_apk(path) -> None:
    """Checks that `path` is an Android package.

    Raises:
        ValueError: if it is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if "AndroidManifest.xml" in archive.namelist():
                return
    except (OSError, zipfile.BadZipFile):
        pass
    raise ValueError(f"apk must be an Android package. Received: apk={str(path)!r}")


class AppPhone(Phone):
    """A phone whose runs go through the benchmark app.

    Args:
        apk: package to install for the session; None if the app is installed already.
        poll_seconds: between two looks at the log.
    """

    program = "benchmark app"

    def __init__(
        self, adb, options, stop=None, *, apk: str | None = None, poll_seconds=1.0, say=print
    ):
        super().__init__(adb, options, stop, say=say)
        self.apk = apk
        self.poll_seconds = poll_seconds
        self._installed = False

    def _prepare_program(self, cells):
        self.flavour = tool_flags.Flavour(tool_flags.CLASSIC)
        present = self.adb.run(["pm", "path", PACKAGE])
        found = present.status == 0 and present.output.startswith("package:")
        if self.apk is not None and not (found and self._installed):
            check_apk(self.apk)
            checksum = provenance.sha256(self.apk)
            remote = f"{FOLDER}/{checksum[:32]}.apk"
            self.files.bring(self.apk, checksum, remote)
            answer = self.adb.run(["pm", "install", "-r", "-d", "-g", remote], timeout=180.0)
            if answer.status or "Success" not in answer.output:
                raise AdbError("failed", f"cannot install {self.apk}: {answer.output.strip()}")
            self._installed = self._installed or not found
        elif not found:
            raise ValueError(f"The app {PACKAGE} is not installed on {self.name}: give --apk")
        self.binary = {
            "name": self.program,
            "package": PACKAGE,
            "flavour": "apk",
            "sha256": provenance.sha256(self.apk) if self.apk else None,
            "version": self._app_version(),
        }

    def _app_version(self):
        for line in self.adb.run(["dumpsys", "package", PACKAGE]).output.splitlines():
            if line.strip().startswith("versionName="):
                return line.strip().partition("=")[2]
        return None

    def check_flags(self, cells):
        super().check_flags(cells)
        for cell in cells:
            if cell.kind == "profile":
                raise ValueError("The app prints no table of operators: profile without --apk")
            spaced = [flag for flag in self.flags(cell) if any(c in flag for c in " \t\n\"'\\")]
            if spaced:
                raise ValueError(
                    "The app splits its flags at blanks: none may hold blanks or quotes. "
                    f"Received: {spaced}"
                )

    def _objections(self, state):
        asleep = ["the screen is off"] if state.screen_on is False else []
        return super()._objections(state) + asleep

    def _objections_to_run(self, before, after):
        asleep = ["the screen was off"] if before.screen_on is False else []
        return super()._objections_to_run(before, after) + asleep

    def _mask(self, state, num_threads):
        return None, "not pinned: Android schedules the app"

    def execute(self, flags, mask, program, watch=None):
        self.adb.run(["am", "force-stop", PACKAGE])
        self.files.check(["logcat", "-c"])
        command = ["am", "start", "-S", "-n", ACTIVITY, "--es", "args", " ".join(flags)]
        answer = self.adb.run(command)
        if answer.status or "Error" in answer.output:
            return f"ERROR: {answer.output}", None, None, []
        limit = self.options.run_seconds
        deadline = time.monotonic() + limit
        ended, samples = False, []
        while True:
            if watch:
                samples += read_samples(self.adb.script(LOOK_ONCE).output)
            log = self.adb.run(
                ["logcat", "-d", "-v", "threadtime", "-s", *_TAGS, *_CRASH_TAGS]
            ).output
            if ended:
                return log, None, None, samples
            report = parse_log(log + "\n")
            ended = report.mean_ms is not None and report.flavour is not None
            ended |= any(word in error for error in report.errors for word in _ENDS)
            if time.monotonic() > deadline:
                self.adb.run(["am", "force-stop", PACKAGE])
                return log, None, f"the app reported no result within {limit:g} s", samples
            time.sleep(self.poll_seconds)

    def _kill_leftover(self):
        self.adb.run(["am", "force-stop", PACKAGE])

    def close(self):
        if self._installed and not self.options.keep_files:
            self.adb.run(["pm", "uninstall", PACKAGE], timeout=120.0)
            self._installed = False
        super().close()
