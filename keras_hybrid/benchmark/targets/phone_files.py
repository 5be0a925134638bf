"""What a session brings to a phone: pushed whole, checked, and removed at the end."""

import re
import shlex
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.targets.adb import Adb, AdbError

FOLDER = "/data/local/tmp/keras_hybrid_benchmark"
_NOT_EXECUTED = re.compile(
    r"[Pp]ermission denied|not executable|can't execute|avc: +denied|inaccessible or not found"
)


class PhoneFiles:
    """The files of one session on one phone, in a folder of their own.

    Args:
        adb: the phone.
    """

    def __init__(self, adb: Adb):
        self.adb = adb
        self._names: set[str] = set()

    def check(self, arguments: list[str]) -> str:
        """The output of a command that must not fail.

        Raises:
            AdbError: if it does.
        """
        answer = self.adb.run(arguments)
        if answer.status:
            full = "No space left" in answer.output
            raise AdbError(
                "full" if full else "failed", f"{shlex.join(arguments)}: {answer.output.strip()}"
            )
        return answer.output

    def bring(self, local, checksum: str, remote: str) -> None:
        """Pushes a file unless it lies there already.

        Raises:
            AdbError: if the phone goes away or is full.
        """
        self.check(["mkdir", "-p", FOLDER])
        self.remember(remote, f"{remote}.part")
        answer = self.adb.run(["sha256sum", remote], timeout=max(60.0, self.adb.timeout))
        if answer.status == 0 and answer.output.split()[:1] == [checksum]:
            return
        self.adb.push(Path(local).resolve(), remote)
        self.check(["chmod", "644", remote])
        answer = self.adb.run(["sha256sum", remote], timeout=max(60.0, self.adb.timeout))
        if answer.status == 0 and answer.output.split()[:1] != [checksum]:
            self.adb.run(["rm", "-f", remote])
            raise AdbError("failed", f"{remote} is not what was pushed: its checksum differs")

    def bring_program(self, path, name: str) -> str:
        """Pushes a program and gives its place on the phone."""
        checksum = provenance.sha256(path)
        remote = f"{FOLDER}/{name}_{checksum[:32]}"
        self.bring(path, checksum, remote)
        self.check(["chmod", "755", remote])
        return remote

    def ask_for_help(self, remote: str) -> str:
        """What a program on the phone answers to --help.

        Raises:
            ValueError: if the phone does not execute it.
        """
        answer = self.adb.run([remote, "--help"], timeout=self.adb.timeout)
        if answer.status in (126, 127) or _NOT_EXECUTED.search(answer.output):
            raise ValueError(
                f"{self.adb.serial} refuses to execute what was pushed (a folder mounted noexec, "
                "or a denial of SELinux): time with --apk instead, or on a phone that lets its "
                f"shell run programs. Received: {answer.output.strip()[-200:]!r}"
            )
        return answer.output

    def write(self, remote: str, text: str) -> None:
        """Writes a small text file.

        Raises:
            AdbError: if it cannot be written.
        """
        self.remember(remote)
        answer = self.adb.script(
            f"mkdir -p {FOLDER} && printf %s {shlex.quote(text)} > {shlex.quote(remote)}"
        )
        if answer.status:
            raise AdbError("failed", f"cannot write {remote}: {answer.output}")

    def remember(self, *remotes: str) -> None:
        """Notes files that `remove` is to remove."""
        self._names |= set(remotes)

    def remove(self) -> None:
        """Removes all that was brought, and the folder.

        Raises:
            AdbError: if the phone goes away.
        """
        if self._names:
            self.check(["rm", "-rf", *sorted(self._names)])
            self.adb.script(f"rmdir {FOLDER}")
