"""Clocks that do not follow heat or load: fixed performance mode, and locked ones on rooted phones.

A lock is written down on the phone before it is made, so that the next session undoes what one
that was killed left behind.
"""

import dataclasses
import shlex
from collections.abc import Callable

from keras_hybrid.benchmark.health.device_state import DeviceState

SAVED = "/data/local/tmp/keras_hybrid_clocks"
_FIXED_PERFORMANCE = ("cmd", "power", "set-fixed-performance-mode-enabled")
_ROOT_SHELLS = ("sh -c", "su 0 sh -c", "su -c")
_FREQUENCIES = "/sys/devices/system/cpu/cpu{}/cpufreq"


class Clocks:
    """The clocks of one phone.

    Args:
        adb: an `Adb`.
        say: called with a line for the user where the phone cannot do what was asked for.

    Attributes:
        fixed_performance: whether the phone is in fixed performance mode; None if it was not asked.
        locked_khz: core -> clock that it is locked to.
    """

    def __init__(self, adb, say: Callable[[str], None]):
        self.adb = adb
        self.say = say
        self.fixed_performance: bool | None = None
        self.locked_khz: dict[int, int] = {}

    def fix_performance(self) -> None:
        """Asks for Android's fixed performance mode."""
        answer = self.adb.run([*_FIXED_PERFORMANCE, "true"])
        self.fixed_performance = answer.status == 0 and "rror" not in answer.output
        if not self.fixed_performance:
            told = answer.output.strip()[-200:]
            self.say(f"[{self.adb.serial}] has no fixed performance mode: {told}")

    def lock(self, share: float, state: DeviceState) -> None:
        """Locks every core to the highest clock of at most `share` of what it can.

        Raises:
            ValueError: if the phone is not rooted, or its kernel does not take the clocks.
        """
        root = self._root_shell()
        if root is None:
            raise ValueError(
                f"Clocks can be locked on rooted phones alone: leave out --lock_clocks for "
                f"{self.adb.serial}. Received: lock_clocks={share:g}"
            )
        self._undo(root)
        wanted = {
            core.number: self._nearest(core, share) for core in state.cores if core.hardware_maximum
        }
        commands = [f"( umask 022; : > {SAVED}"]
        for number in wanted:
            for name in ("scaling_max_freq", "scaling_min_freq"):
                path = f"{_FREQUENCIES.format(number)}/{name}"
                commands.append(f'echo "{path} $(cat {path})" >> {SAVED}')
        for number, khz in wanted.items():
            folder = _FREQUENCIES.format(number)
            commands += [
                f"cat {folder}/cpuinfo_max_freq > {folder}/scaling_max_freq",
                f"echo {khz} > {folder}/scaling_min_freq",
                f"echo {khz} > {folder}/scaling_max_freq",
            ]
        self._as_root(root, "; ".join(commands) + " )")
        script = "\n".join(
            f"echo {number} $(cat {_FREQUENCIES.format(number)}/scaling_min_freq) "
            f"$(cat {_FREQUENCIES.format(number)}/scaling_max_freq)"
            for number in wanted
        )
        for line in self.adb.script(script).output.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == words[2] and words[0].isdigit():
                self.locked_khz[int(words[0])] = int(words[2])
        refused = sorted(n for n, khz in wanted.items() if self.locked_khz.get(n) != khz)
        if refused or not wanted:
            self.restore()
            raise ValueError(
                f"The kernel of {self.adb.serial} did not lock the clocks of cores "
                f"{refused or 'any'}. Received: lock_clocks={share:g}"
            )

    def _nearest(self, core, share):
        """The highest clock that the core has below the share, else the share itself."""
        path = f"{_FREQUENCIES.format(core.number)}/scaling_available_frequencies"
        words = self.adb.run(["cat", path]).output.split()
        limit = int(share * core.hardware_maximum)
        below = [int(word) for word in words if word.isdigit() and int(word) <= limit]
        return max(below, default=limit)

    def _root_shell(self):
        """Words before a script that run it as root, None if nothing does."""
        for words in _ROOT_SHELLS:
            answer = self.adb.script(f"{words} 'id -u'")
            if answer.status == 0 and answer.output.strip() == "0":
                return words
        return None

    def _as_root(self, root, script):
        return self.adb.script(f"{root} {shlex.quote(script)}")

    def _undo(self, root):
        """Puts back what a lock changed, the maximum first, and forgets it."""
        self._as_root(
            root,
            f"[ -e {SAVED} ] && for name in max min max; do while read -r path value; do "
            f'case $path in */scaling_${{name}}_freq) echo "$value" > "$path";; esac; '
            f"done < {SAVED}; done; rm -f {SAVED}",
        )

    def restore(self) -> None:
        """Leaves the phone as it was found."""
        if self.fixed_performance:
            self.adb.run([*_FIXED_PERFORMANCE, "false"])
            self.fixed_performance = None
        if self.locked_khz:
            root = self._root_shell()
            if root:
                self._undo(root)
            self.locked_khz = {}

    def as_dict(self) -> dict:
        """What a row's `device` says of it."""
        found: dict = {}
        if self.fixed_performance is not None:
            found["fixed_performance"] = self.fixed_performance
        if self.locked_khz:
            found["locked_khz"] = {str(n): khz for n, khz in sorted(self.locked_khz.items())}
        return found

    def judged(self, state: DeviceState) -> DeviceState:
        """The state with locked clocks as the cores' highest: a lock is no cap."""
        cores = tuple(
            dataclasses.replace(core, hardware_maximum=self.locked_khz[core.number])
            if core.number in self.locked_khz
            else core
            for core in state.cores
        )
        return dataclasses.replace(state, cores=cores)
