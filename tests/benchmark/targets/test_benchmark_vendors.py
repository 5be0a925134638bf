"""Vendors' NPUs as rows of data: libraries, environment, settings, flags. None was tried."""

import json

import pytest
from fake_phone import write_benchmark_model

from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.targets.delegates import CLASSIC, DELEGATES, LITERT
from keras_hybrid.benchmark.targets.phone_files import FOLDER

LIBRARIES = {
    "qnn": ("libQnnTFLiteDelegate.so", "libQnnHtp.so", "libQnnSystem.so", "libQnnHtpV79Skel.so"),
    "neuron": ("libneuron_stable_delegate.so",),
    "ethosu": ("libethosu_delegate.so",),
}


@pytest.mark.large
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_vendors_delegate_gets_what_it_needs(make_phone, run_on, make_models, tmp_path, name):
    phone = make_phone()
    libraries = [tmp_path / library for library in LIBRARIES[name]]
    for library in libraries:
        library.write_bytes(b"library of " + library.name.encode())
    seen, original = {}, phone.device.start_shell

    def watched(command, merge):
        if "run.pid" in command and "exec" in command:
            seen["command"] = command
            folder = phone.root / FOLDER.lstrip("/")
            seen["files"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        return original(command, merge)

    phone.device.start_shell = watched
    rows, outcome, _ = run_on(
        phone,
        cells=[Cell(make_models("a.tflite")[0], 1, name)],
        libraries=tuple(map(str, libraries)),
    )
    assert outcome.complete and rows[0].status == "fell_back"  # the stand-in's log names no NPU
    assert not any("ignored" in note for note in rows[0].notes)
    assert f"LD_LIBRARY_PATH={FOLDER} " in seen["command"] and "{folder}" not in seen["command"]
    assert all(seen["files"][path.name] == path.read_bytes() for path in libraries)
    if name == "neuron":
        settings = json.loads(seen["files"]["neuron_settings.json"])
        path = settings["stable_delegate_loader_settings"]["delegate_path"]
        # The simulated phone puts its storage before every path that it is sent.
        assert path.endswith(f"{FOLDER}/libneuron_stable_delegate.so")
        assert f"--stable_delegate_settings_file={FOLDER}/neuron_settings.json" in rows[0].command
    if name == "qnn":
        assert f"skel_library_dir:{FOLDER}" in " ".join(rows[0].command)
        assert f"ADSP_LIBRARY_PATH='{FOLDER};/vendor" in seen["command"]
    assert phone.files() == []


def test_a_missing_library_of_a_vendor_is_named(make_phone, run_on, make_models, tmp_path):
    program = write_benchmark_model(tmp_path, "litert")
    cells = [Cell(make_models("a.tflite")[0], 1, "compiled")]
    rows, outcome, _ = run_on(make_phone(), cells=cells, binaries=(str(program),))
    assert rows == [] and "libLiteRtCompilerPlugin" in outcome.message


def test_every_delegate_is_whole():
    for name, delegate in DELEGATES.items():
        assert delegate.name == name and set(delegate.flags) <= {CLASSIC, LITERT}
        assert all(flag.startswith("--") for flags in delegate.flags.values() for flag in flags)
        for given in delegate.files:
            assert any(given in flag for flags in delegate.flags.values() for flag in flags)
        uses_folder = any("{folder}" in flag for flags in delegate.flags.values() for flag in flags)
        assert uses_folder == bool(delegate.libraries)
