"""Which phone it is: model, processor, system, and a serial number that no cable changes."""

import re

_PROPERTIES = {
    "model": "ro.product.model",
    "manufacturer": "ro.product.manufacturer",
    "soc": "ro.soc.model",
    "soc_manufacturer": "ro.soc.manufacturer",
    "platform": "ro.board.platform",
    "hardware": "ro.hardware",
    "android": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "fingerprint": "ro.build.fingerprint",
    "abi": "ro.product.cpu.abi",
    "abis": "ro.product.cpu.abilist",
}
_SERIAL_PROPERTIES = ("ro.serialno", "ro.boot.serialno")
_EMULATOR_PROPERTIES = ("ro.kernel.qemu", "ro.boot.qemu")
_EMULATOR_HARDWARE = re.compile(r"ranchu|goldfish|cuttlefish|vsoc", re.IGNORECASE)


def read_identity(adb) -> dict:
    """The phone's identity as rows write it; values that it does not tell are None.

    Args:
        adb: an `Adb`.

    Raises:
        AdbError: if the phone goes away.
    """
    asked = {
        **_PROPERTIES,
        **{f"serial{n}": name for n, name in enumerate(_SERIAL_PROPERTIES)},
        **{f"emulator{n}": name for n, name in enumerate(_EMULATOR_PROPERTIES)},
    }
    script = "\n".join(f"echo '@{key}'; getprop {name}" for key, name in asked.items())
    output = adb.script(script).output
    device: dict = {"serial": adb.serial, "transport": adb.serial}
    found = dict(re.findall(r"^@(\w+)\n(.*?)\n?(?=^@|\Z)", output, re.M | re.S))
    for key in _PROPERTIES:
        device[key] = found.get(key, "").strip() or None
    for number in range(len(_SERIAL_PROPERTIES)):
        own = found.get(f"serial{number}", "").strip()
        if own and own.lower() != "unknown":
            device["serial"] = own
            break
    device["emulator"] = bool(
        any(found.get(f"emulator{n}", "").strip() == "1" for n in (0, 1))
        or _EMULATOR_HARDWARE.search(device["hardware"] or "")
    )
    device["abis"] = (device["abis"] or device["abi"] or "").split(",")
    device["soc"] = device["soc"] or device["platform"] or device["hardware"]
    return device
