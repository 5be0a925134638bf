"""One harness on a phone at a time: a lock that lies on the phone itself.

Two harnesses, or one that reaches a phone by cable and by Wi-Fi, would time each other's work. The
lock says whose it is and until when, by the phone's clock, so that none outlives its harness long.
"""

import os
import socket
import time

from keras_hybrid.benchmark.targets.adb import Adb, AdbError

PATH = "/data/local/tmp/keras_hybrid_benchmark.lock"


class PhoneLock:
    """The lock of one phone, for one target of one session.

    Args:
        adb: the phone, under the name by which this target reaches it.
        session: the session's mark; two targets of one session that meet are one phone.
        valid_seconds: how long the lock holds if it is not renewed.

    Attributes:
        is_ours: whether it was taken: without it nothing on the phone may be touched.
    """

    def __init__(self, adb: Adb, session: str, valid_seconds: float):
        self.adb = adb
        self.valid_seconds = int(valid_seconds)
        self.is_ours = False
        self._owner = [socket.gethostname(), str(os.getpid()), session or "-", adb.serial]
        self._word = ":".join(word.encode().hex() for word in self._owner)  # for a shell

    def take(self, wait_seconds: float, pause: float = 1.0) -> None:
        """Takes the lock, or waits for another harness to give it back.

        Raises:
            AdbError: of kind "same" if a target of this session has it, "busy" if another harness
                keeps it, or whatever happens to the phone.
        """
        self.is_ours = False
        deadline = time.monotonic() + wait_seconds
        while True:
            owner = self._try()
            if owner is None:
                self.is_ours = True
                return
            host, process, session, serial = owner
            if owner[:3] == self._owner[:3]:
                raise AdbError(
                    "same",
                    f"{self.adb.serial} is the same phone as {serial}",
                    same_device_as=serial,
                )
            if host == self._owner[0] and not _is_alive(process):
                self._remove()
            elif time.monotonic() >= deadline:
                raise AdbError(
                    "busy",
                    f"another harness (process {process} on {host}) measures on {self.adb.serial}",
                )
            else:
                time.sleep(pause)

    def _try(self):
        """None if the lock is ours now, else its owner."""
        answer = self.adb.script(
            f"look() {{ read -r old until < {PATH}/owner; }}; now=$(date +%s); look\n"
            f'if [ -d {PATH} ] && [ -z "$old" ]; then sleep 1; look; fi\n'  # it is being made
            f'if [ -d {PATH} ] && {{ [ -z "$old" ] || [ "${{until:-0}}" -lt "$now" ] || '
            f'[ "$old" = {self._word} ]; }}; then rm -rf {PATH}; fi\n'
            f"if mkdir {PATH}; then "
            f'echo {self._word} "$((now + {self.valid_seconds}))" > {PATH}/owner; echo @ours\n'
            f'elif [ -d {PATH} ]; then echo "@owner $old"; else echo @ours; fi'
        )
        for line in answer.output.splitlines():
            if line.startswith("@owner"):
                words = line.removeprefix("@owner").strip().split(":")
                try:
                    owner = [bytes.fromhex(word).decode() for word in words]
                except ValueError:
                    owner = []
                return owner if len(owner) == 4 else ["an unknown machine", "0", "", ""]
        return None

    def renewal(self) -> str:
        """A line of shell that makes the lock hold for another while."""
        until = f"$(($(date +%s) + {self.valid_seconds}))"
        return f'echo {self._word} "{until}" 2>/dev/null > {PATH}/owner; '

    def give_back(self) -> None:
        """Removes the lock if it is ours."""
        self.adb.script(
            f"read -r old until 2>/dev/null < {PATH}/owner; "
            f'[ "$old" = {self._word} ] && rm -rf {PATH}'
        )
        self.is_ours = False

    def _remove(self):
        self.adb.script(f"rm -rf {PATH}")


def _is_alive(process):
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
