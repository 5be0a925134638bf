"""Phones for tests: storage, properties, tools of the shell, and programs to push to them."""

import hashlib
import json
import os
import platform
import stat
import struct
import sys
import zipfile
from pathlib import Path

from adb_daemon import Device

STANDIN = Path(__file__).parent / "standin.py"
HOST_ABI = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}[platform.machine()]
PROPERTIES = {
    "ro.product.model": "Fake Phone 7",
    "ro.product.manufacturer": "Fake",
    "ro.soc.model": "SoC 9",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.build.fingerprint": "fake/phone/7:14/AB1/1:user/release-keys",
    "ro.product.cpu.abi": HOST_ABI,
    "ro.product.cpu.abilist": f"{HOST_ABI},armeabi-v7a",
}
# Machine code that replaces itself by the program whose path follows, with the same arguments.
_CODE = {
    "x86_64": bytes.fromhex("488b0424488d742408488d54c410488d3d07000000b83b0000000f05"),
    "aarch64": struct.pack(
        "<7I", 0xF94003E3, 0x910023E1, 0x8B030C22, 0x91002042, 0x10000060, 0xD2801BA8, 0xD4000001
    ),
}
_TOOLS = {
    "getprop": 'cat "$PHONE/properties/$1" 2>/dev/null || echo',
    "dumpsys": 'cat "$PHONE/dumpsys/$1" 2>/dev/null',
    "taskset": """[ "$1" = -p ] && exit
echo "$1" >> "$PHONE/masks"; shift; exec "$@\"""",
    "su": "exit 1",
    "sync": "exit 0",
    "pm": """case $1 in
path) [ -e "$PHONE/app" ] && echo package:/data/app/base.apk;;
install) shift; for last; do :; done; [ -s "$last" ] && touch "$PHONE/app" && echo Success;;
uninstall) rm -f "$PHONE/app"; echo Success;;
esac""",
    "am": """[ "$1" = start ] || exit 0
[ -e "$PHONE/app" ] || { echo 'Error: Activity class does not exist.'; exit 1; }
for last; do :; done
echo 'Starting: Intent { cmp=org.tensorflow.lite.benchmark/.BenchmarkModelActivity }'
(set -f; "$STANDIN_PYTHON" -S -E "$STANDIN" classic $last 2>&1 | grep -v STARTING | while read -r l
do case $l in ERROR:*) c=E;; WARN:*) c=W;; *) c=I;; esac
[ -n "$l" ] && echo "07-14 13:23:08.133 25289 25289 $c tflite  : ${l#*: }"
done >> "$PHONE/logcat") </dev/null >/dev/null 2>&1 &""",
    "logcat": 'case $1 in -c) : > "$PHONE/logcat";; *) cat "$PHONE/logcat";; esac',
}
THERMAL = """IsStatusOverride: false
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=31.0, mType=3, mName=skin, mStatus=0}}
Current temperatures from HAL:
\tTemperature{{mValue={skin}, mType=3, mName=skin, mStatus={status}}}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  level: {level}
  temperature: {tenths}
"""


class Phone:
    """A `Device` with the files and tools that a phone has; four small cores and four big ones."""

    def __init__(self, root: Path, *, shell_v2: bool = True, properties=()):
        self.root = root
        for folder in ("bin", "properties", "dumpsys", "data/local/tmp", "proc/sys/kernel/random"):
            (root / folder).mkdir(parents=True)
        for name, text in _TOOLS.items():
            _write_program(root / "bin" / name, f"#!/bin/sh\n{text}\n")
        for name, value in {**PROPERTIES, **dict(properties)}.items():
            (root / "properties" / name).write_text(value + "\n")
        (root / "dumpsys/power").write_text("  mWakefulness=Awake\n")
        (root / "proc/loadavg").write_text("0.20 0.10 0.05 1/900 4242\n")
        (root / "proc/sys/kernel/random/boot_id").write_text("11111111-2222-3333\n")
        for number in range(8):
            folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
            folder.mkdir(parents=True)
            top = 3000000 if number >= 4 else 1800000
            for name, value in (
                ("scaling_governor", "schedutil"),
                ("scaling_cur_freq", top // 2),
                ("scaling_max_freq", top),
                ("cpuinfo_max_freq", top),
            ):
                (folder / name).write_text(f"{value}\n")
        zone = root / "sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("cpu-1-0\n")
        (zone / "temp").write_text("41500\n")
        self.set_health()
        self.device = Device(
            root,
            {
                "PATH": f"{root}/bin:/usr/bin:/bin",
                "PHONE": str(root),
                "STANDIN": str(STANDIN),
                "STANDIN_PYTHON": sys.executable,
                "STANDIN_FAULTS": str(root),
            },
            shell_v2=shell_v2,
        )

    @property
    def faults(self):
        return self.device.faults

    @property
    def serial(self):
        return self.device.address

    def set_health(self, *, thermal_status=0, skin=33.5, level=80, battery_c=29.5):
        thermal = THERMAL.format(status=thermal_status, skin=skin)
        (self.root / "dumpsys/thermalservice").write_text(thermal)
        battery = BATTERY.format(level=level, tenths=int(battery_c * 10))
        (self.root / "dumpsys/battery").write_text(battery)

    def set_standin_faults(self, **faults):
        (self.root / "faults.json").write_text(json.dumps(faults))

    def files(self):
        """What lies on the device's storage."""
        storage = self.root / "data/local/tmp"
        return sorted(str(p.relative_to(storage)) for p in storage.rglob("*"))


def _write_program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def write_elf(path: Path, code: bytes, machine: int, loader: bytes = b"") -> Path:
    """A 64-bit ELF program of one segment, and PT_INTERP if a loader is named."""
    headers = 2 if loader else 1
    begin = 64 + 56 * headers
    total = begin + len(code) + len(loader)
    base = 0x400000
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, base + begin, 64, 0, 0, 64, 56, headers, 0, 0, 0
    )
    segments = b""
    if loader:
        place = begin + len(code)
        segments += struct.pack(
            "<IIQQQQQQ", 3, 4, place, base + place, base + place, len(loader), len(loader), 1
        )
    segments += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, 0x1000)
    path.write_bytes(identity + header + segments + code + loader)
    path.chmod(0o755)
    return path


def write_benchmark_model(folder: Path, flavour: str = "classic") -> Path:
    """A program of this machine's kind that behaves like `benchmark_model` of that flavour."""
    launcher = folder / f"benchmark_model_{flavour}_launcher"
    _write_program(
        launcher,
        f'#!/bin/sh\nexec "{sys.executable}" -S -E "{STANDIN}" {flavour} "$@"\n',
    )
    code = _CODE[platform.machine()] + os.fsencode(launcher) + b"\0"
    machine = {"x86_64": 62, "aarch64": 183}[platform.machine()]
    return write_elf(folder / f"benchmark_model_{flavour}", code, machine)


def write_apk(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AndroidManifest.xml", "manifest")
    return path


def store_answers(phone, cases):
    """What the model computes, for the stand-in that has no interpreter."""
    folder = phone.root / "answers"
    folder.mkdir(exist_ok=True)
    for given, expected in zip(cases.inputs, cases.expected, strict=True):
        name = hashlib.sha256(given.read_bytes()).hexdigest()
        (folder / name).write_bytes(expected.read_bytes())
