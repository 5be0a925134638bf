"""The state of a phone: battery, temperature, thermal status, CPU, screen, load; and its rules."""

import dataclasses
import re

# One script, so that a state costs one round trip. Nothing in it comes from the user.
STATE_SCRIPT = r"""
echo '@battery'; dumpsys battery
echo '@thermal'; dumpsys thermalservice
echo '@power'; dumpsys power | grep -E 'mWakefulness=|Display Power: state='
echo '@load'; cat /proc/loadavg
echo '@boot'; cat /proc/sys/kernel/random/boot_id
look() { cat "$1" 2>/dev/null || echo -; }
echo '@cpu'; for c in /sys/devices/system/cpu/cpu[0-9]*; do
f=$c/cpufreq
echo "${c##*cpu} $(look $c/online) $(look $f/scaling_governor) $(look $f/scaling_cur_freq) \
$(look $f/scaling_max_freq) $(look $f/cpuinfo_max_freq) $(look $c/cpu_capacity)"
done
echo '@zones'; for z in /sys/class/thermal/thermal_zone*; do
echo "$(look $z/type) $(look $z/temp)"; done
echo '@end'
"""


@dataclasses.dataclass(frozen=True)
class Core:
    """One CPU core; frequencies in kHz, None where the kernel shows none."""

    number: int
    online: bool
    governor: str | None
    frequency: int | None
    allowed_maximum: int | None
    hardware_maximum: int | None
    capacity: int | None

    @property
    def strength(self) -> int:
        """What cores are ordered by: the kernel's capacity, else the highest frequency."""
        return self.capacity or self.hardware_maximum or 0


@dataclasses.dataclass(frozen=True)
class DeviceState:
    """A phone at one moment; what it does not tell is None.

    Args:
        thermal_status: Android's, 0 (none) to 6 (shutdown).
        skin_c, battery_c: temperatures in degrees Celsius.
        screen_on: whether the device is awake.
        load: the kernel's load average over one minute.
        boot_id: changes with every boot.
    """

    battery_level: int | None
    battery_c: float | None
    charging: bool | None
    thermal_status: int | None
    skin_c: float | None
    zones_c: dict[str, float]
    screen_on: bool | None
    load: float | None
    boot_id: str | None
    cores: tuple[Core, ...]

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    def capped_cores(self, share: float = 1.0) -> list[int]:
        """Online cores that may not run at `share` of the frequency that the hardware can."""
        return [
            core.number
            for core in self.cores
            if core.online
            and core.allowed_maximum
            and core.hardware_maximum
            and core.allowed_maximum < share * core.hardware_maximum
        ]


def parse_state(output: str) -> DeviceState:
    """Reads the output of `STATE_SCRIPT`.

    Raises:
        ValueError: if the output was cut.
    """
    parts = dict(
        (name, body) for name, body in re.findall(r"^@(\w+)\n(.*?)(?=^@|\Z)", output, re.M | re.S)
    )
    if "end" not in parts:
        raise ValueError(f"The state of the device is cut. Received: {output[-200:]!r}")

    def figure(part, pattern, scale=1.0):
        match = re.search(pattern, parts.get(part, ""), re.MULTILINE)
        return float(match[1]) / scale if match else None

    def whole(part, pattern):
        value = figure(part, pattern)
        return None if value is None else int(value)

    powered = re.findall(
        r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)", parts.get("battery", ""), re.M
    )
    awake = re.search(r"mWakefulness=(\w+)", parts.get("power", ""))
    boot = parts.get("boot", "").strip()
    return DeviceState(
        battery_level=whole("battery", r"^\s*level: (\d+)"),
        battery_c=figure("battery", r"^\s*temperature: (-?\d+)", 10),
        charging="true" in powered if powered else None,
        thermal_status=whole("thermal", r"^\s*Thermal Status: (\d+)"),
        skin_c=_skin(parts.get("thermal", "")),
        zones_c=_zones(parts.get("zones", "")),
        screen_on=awake[1] == "Awake" if awake else None,
        load=figure("load", r"^([\d.]+) "),
        boot_id=boot if re.fullmatch(r"[0-9a-f-]{8,}", boot) else None,
        cores=tuple(filter(None, map(_core, parts.get("cpu", "").splitlines()))),
    )


def _skin(thermal):
    """The highest skin temperature (type 3); the service lists cached values before current."""
    current = thermal.partition("Current temperatures from HAL:")[2] or thermal
    values = [
        float(value)
        for value, kind in re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+)", current)
        if kind == "3"
    ]
    return max(values, default=None)


def _zones(text):
    zones = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if re.fullmatch(r"-?\d+", value) and name:
            degrees = int(value) / 1000 if abs(int(value)) > 1000 else float(value)
            if -40 < degrees < 200:
                zones[name] = max(degrees, zones.get(name, degrees))
    return zones


def _core(line):
    words = line.split()
    if len(words) != 7 or not words[0].isdigit():
        return None
    numbers = [int(word) if word.isdigit() else None for word in words]
    return Core(
        number=int(words[0]),
        online=words[1] != "0",
        governor=None if words[2] == "-" else words[2],
        frequency=numbers[3],
        allowed_maximum=numbers[4],
        hardware_maximum=numbers[5],
        capacity=numbers[6],
    )


def big_cores(cores: tuple[Core, ...], num_threads: int) -> list[int]:
    """The strongest cores: whole clusters, from the top, until there is one for each thread.

    Returns:
        Numbers of online cores; none if the kernel does not tell the cores apart.
    """
    online = [core for core in cores if core.online]
    strengths = sorted({core.strength for core in online}, reverse=True)
    if strengths in ([], [0]):
        return []
    chosen = []
    for strength in strengths:
        chosen += [core.number for core in online if core.strength == strength]
        if len(chosen) >= num_threads:
            break
    return sorted(chosen)


def weak_cores(cores: tuple[Core, ...]) -> list[int]:
    """Online cores of the weakest cluster; none if there is one cluster alone."""
    online = [core for core in cores if core.online]
    strengths = sorted({core.strength for core in online})
    if len(strengths) < 2:
        return []
    return sorted(core.number for core in online if core.strength == strengths[0])


def warming_of(first: DeviceState | None, state: DeviceState) -> dict:
    """Degrees above the session's first state, by what was measured, as a row writes them."""
    if first is None:
        return {}
    pairs = {
        "skin": (first.skin_c, state.skin_c),
        "battery": (first.battery_c, state.battery_c),
    }
    known = {
        name: round(now - before, 2)
        for name, (before, now) in pairs.items()
        if before is not None and now is not None
    }
    return {"warmer_by_c": known} if known else {}


def cpu_mask(numbers: list[int]) -> str:
    """The hexadecimal mask that `taskset` takes, e.g. [4, 5, 6, 7] -> "f0"."""
    return f"{sum(1 << number for number in set(numbers)):x}"


def unknown_figures(state: DeviceState) -> list[str]:
    """What a phone does not tell of its health: whether it throttled cannot be known then."""
    figures = {
        "thermal status": state.thermal_status,
        "battery temperature": state.battery_c,
        "load": state.load,
        "clocks": next((core.allowed_maximum for core in state.cores), None),
    }
    return [name for name, value in figures.items() if value is None]


@dataclasses.dataclass(frozen=True)
class Rules:
    """When a phone is fit to be measured.

    Args:
        max_thermal_status: Android's thermal status may not exceed this.
        max_battery_c: nor the battery this temperature.
        max_load_per_core: nor the load average this, per online core.
        least_clock: online cores may not be capped below this share of their highest clock.
        min_battery_level: per cent, unless the phone is charging.
        max_warming_c: degrees above the session's first temperature above which to wait, too.
        cooldown_seconds: how long to wait for that before the row is measured and marked.
        poll_seconds: between two looks.
        pause_seconds: between two runs, always.
    """

    max_thermal_status: int = 0
    max_battery_c: float = 40.0
    max_load_per_core: float = 1.5
    min_battery_level: int = 15
    least_clock: float = 0.9
    max_warming_c: float = 1.0
    cooldown_seconds: float = 300.0
    poll_seconds: float = 10.0
    pause_seconds: float = 0.0

    def warming(self, first: DeviceState | None, state: DeviceState) -> list[str]:
        """How much warmer the phone is than at the start, if it is too much, in words."""
        known = warming_of(first, state).get("warmer_by_c", {})
        return [
            f"the {name} is {degrees:.1f} C warmer than at the start"
            for name, degrees in known.items()
            if degrees > self.max_warming_c
        ][:1]

    def objections(self, state: DeviceState) -> list[str]:
        """Why the phone in this state is not fit, in words for the row's notes."""
        reasons = []
        if (state.thermal_status or 0) > self.max_thermal_status:
            reasons.append(f"thermal status {state.thermal_status}")
        if state.battery_c is not None and state.battery_c > self.max_battery_c:
            reasons.append(f"battery at {state.battery_c:g} C")
        online = sum(core.online for core in state.cores) or 1
        if state.load is not None and state.load > self.max_load_per_core * online:
            reasons.append(f"load {state.load:g} on {online} cores")
        capped = state.capped_cores(self.least_clock)
        if capped:
            reasons.append(f"cores {capped} are capped")
        low = state.battery_level is not None and state.battery_level < self.min_battery_level
        if low and not state.charging:
            reasons.append(f"battery level {state.battery_level}%")
        return reasons

    def objections_to_run(self, before: DeviceState, after: DeviceState | None) -> list[str]:
        """Why a run between these two states was disturbed; `after` is None if it is not known.

        The load of the run itself is in the load average afterwards, so that only the load
        before counts.
        """
        reasons = [f"before: {reason}" for reason in self.objections(before)]
        if after is None:
            return reasons
        reasons += [
            f"after: {reason}" for reason in self.objections(dataclasses.replace(after, load=None))
        ]
        capped = sorted(set(after.capped_cores()) - set(before.capped_cores()))
        if capped:
            reasons.append(f"cores {capped} were capped during the run")
        return reasons
