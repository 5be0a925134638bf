"""What a phone does while a program runs: clocks, temperatures and power, sampled in its shell.

The state before and after a run does not show a clock that was cut in between. A loop on the phone
reads a few files of the kernel, on the weakest cores where there are others, into a file that comes
back with the program's output.
"""

import dataclasses
import re
import secrets

from keras_hybrid.benchmark.health.device_state import DeviceState
from keras_hybrid.benchmark.results import statistics

_FREQUENCY = re.compile(r"/cpu(\d+)/cpufreq/scaling_(cur|max)_freq$")
_ZONE = re.compile(r"/thermal_zone(\d+)/temp$")
_RAIL = re.compile(r"CH\d+\(T=\d+\)\[([^\]]+)\], (\d+)")
# Rails of what computes: supplies that feed all others (VSYS) would count twice.
_COMPUTES = re.compile(r"CPU|G3D|GPU|TPU|NPU|MIF|VDD_INT|DDR|VDDQ", re.IGNORECASE)
_LEAST_MICROAMPERES = 10_000  # a phone at work draws more: then the kernel counts in mA


_FIND_FILES = (
    "watched=/proc/uptime; for f in "
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq "
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq "
    "/sys/class/power_supply/battery/current_now "
    "/sys/class/power_supply/battery/voltage_now "
    "/sys/bus/iio/devices/iio:device*/energy_value; do "
    '[ -r "$f" ] && watched="$watched $f"; done\n'
    "for z in /sys/class/thermal/thermal_zone*; do case $(cat $z/type 2>/dev/null) in "
    "*[Ss]kin*|*[Bb]attery*|*cpu*|*CPU*) "
    '[ -r "$z/temp" ] && watched="$watched $z/temp";; esac; done\n'
)
_LOOK = "grep -H . $watched"
LOOK_ONCE = f"{_FIND_FILES}{_LOOK} 2>/dev/null"  # a script that prints one sample


@dataclasses.dataclass
class Sample:
    """One look; `seconds` is the phone's uptime."""

    seconds: float
    clock_khz: dict[int, int] = dataclasses.field(default_factory=dict)
    allowed_khz: dict[int, int] = dataclasses.field(default_factory=dict)
    zones_c: dict[str, float] = dataclasses.field(default_factory=dict)
    current_ua: int | None = None
    voltage_uv: int | None = None
    rails_uws: dict[str, int] = dataclasses.field(default_factory=dict)


class Watch:
    """The shell around one run that samples the phone meanwhile.

    Args:
        folder: on the phone.
        interval: seconds between two looks.
        limit: seconds after which the loop ends, whatever became of the program.
        mask: for `taskset`, of the cores that the loop runs on; None for any.
    """

    def __init__(self, folder: str, interval: float, limit: float, mask: str | None = None):
        self.file = f"{folder}/watch.txt"
        self.interval = interval
        self.most = int(limit / interval) + 2
        self.mask = mask
        self.mark = f"keras_hybrid_watch_{secrets.token_hex(8)}"

    def around(self, command: str) -> str:
        """The script that runs a command between begin and end of the sampling.

        Its status is the command's; its output is followed by the samples.
        """
        pin = f"taskset -p {self.mask} $watcher >/dev/null 2>&1 & " if self.mask else ""
        return (
            f"{_FIND_FILES}"
            f"( n=0; while kill -0 $$ && [ $n -lt {self.most} ]; do n=$((n+1)); "
            f"{_LOOK}; sleep {self.interval:g}; done ) "
            f"</dev/null >{self.file} 2>/dev/null &\nwatcher=$!; {pin}\n"
            f"{command}\nstatus=$?; kill $watcher 2>/dev/null; wait $watcher 2>/dev/null; "
            f"echo; echo {self.mark}; cat {self.file}; rm -f {self.file}; (exit $status)"
        )

    def split(self, output: str) -> tuple[str, list[Sample]]:
        """The program's own output, and the samples behind it."""
        output, _, samples = output.partition(f"\n{self.mark}\n")
        return output, read_samples(samples)


def read_samples(text: str) -> list[Sample]:
    """Reads what `grep -H .` printed; each look begins with the uptime."""
    samples: list[Sample] = []
    for line in text.splitlines():
        path, _, value = line.partition(":")
        if path.endswith("/iio"):  # iio:device0
            path, _, value = value.partition(":")
        value = value.strip()
        if path.endswith("/uptime"):
            seconds = value.split()[:1]
            if seconds and re.fullmatch(r"\d{1,12}(?:\.\d+)?", seconds[0]):
                samples.append(Sample(float(seconds[0])))
            continue
        if not samples:
            continue
        sample = samples[-1]
        rail = _RAIL.fullmatch(value)
        if rail:
            sample.rails_uws[rail[1]] = int(rail[2])
        elif not re.fullmatch(r"-?\d{1,15}", value):
            continue
        elif match := _FREQUENCY.search(path):
            clocks = sample.clock_khz if match[2] == "cur" else sample.allowed_khz
            clocks[int(match[1])] = int(value)
        elif match := _ZONE.search(path):
            degrees = int(value) / 1000 if abs(int(value)) > 1000 else float(value)
            if -40 < degrees < 200:
                sample.zones_c[match[1]] = degrees
        elif path.endswith("/current_now"):
            sample.current_ua = int(value)
        elif path.endswith("/voltage_now"):
            sample.voltage_uv = int(value)
    return samples


def capped_meanwhile(samples: list[Sample], before: DeviceState) -> list[int]:
    """Cores that were allowed less in any sample than before the run."""
    allowed = {core.number: core.allowed_maximum for core in before.cores}
    return sorted(
        {
            core
            for sample in samples
            for core, khz in sample.allowed_khz.items()
            if allowed.get(core) and khz < allowed[core]
        }
    )


def summarize_samples(samples: list[Sample], before: DeviceState | None = None) -> dict:
    """A row's `during`: clocks of each core as [least, median, most], temperature, power.

    Power is left out where the phone does not tell: without rails it is the battery's, which says
    nothing of a phone that is being charged.
    """
    if not samples:
        return {}
    found: dict = {
        "samples": len(samples),
        "seconds": round(samples[-1].seconds - samples[0].seconds, 2),
    }
    clocks: dict[int, list[int]] = {}
    for sample in samples:
        for core, khz in sample.clock_khz.items():
            clocks.setdefault(core, []).append(khz)
    if clocks:
        found["clock_khz"] = {
            str(core): [min(seen), round(statistics.median(seen)), max(seen)]
            for core, seen in sorted(clocks.items())
        }
    hottest = [max(sample.zones_c.values()) for sample in samples if sample.zones_c]
    if hottest:
        found["hottest_c"] = [hottest[0], max(hottest), hottest[-1]]
    return found | _power(samples, before)


def _power(samples, before):
    first, last = samples[0], samples[-1]
    seconds = last.seconds - first.seconds
    rails = {
        name: last.rails_uws[name] - uws
        for name, uws in first.rails_uws.items()
        if name in last.rails_uws and _COMPUTES.search(name)
    }
    if rails and seconds > 0 and min(rails.values()) >= 0:
        return {
            "power_mw": round(sum(rails.values()) / seconds / 1000, 3),
            "power_source": "rails " + " ".join(sorted(rails)),
        }
    drawn = [(abs(s.current_ua), s.voltage_uv) for s in samples if s.current_ua and s.voltage_uv]
    if not drawn or before is None or before.charging is not False:
        return {}
    typical = statistics.median([current for current, _ in drawn])
    factor, unit = (1, "") if typical >= _LEAST_MICROAMPERES else (1000, ", taken as mA")
    power = statistics.mean([factor * current * voltage / 1e9 for current, voltage in drawn])
    return {"power_mw": round(power, 3), "power_source": f"battery's current{unit}"}


def energy_of(during: dict, fields: dict, flags: tuple[str, ...] = ()) -> float | None:
    """Millijoules of one inference of the whole phone, None where it does not tell.

    Pauses between inferences are in the power, too: with such flags there is none.
    """
    pauses = any(re.match(r"--run_(?:delay|frequency)=[^-]", flag) for flag in flags)
    times = [fields.get("mean_ms"), fields.get("median_ms")]
    ms = next((time for time in times if time), None)
    power = during.get("power_mw")
    return None if power is None or ms is None or pauses else round(power * ms / 1000, 6)
