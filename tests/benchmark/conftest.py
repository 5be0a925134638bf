"""Fixtures: an adb server of the test's own, phones on loopback, models and programs."""

import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_phone import Phone as FakePhone
from fake_phone import write_benchmark_model

from keras_hybrid.benchmark.health.device_state import Rules
from keras_hybrid.benchmark.plan import Cell, Repetitions
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session, find_models
from keras_hybrid.benchmark.targets.adb import Adb, run_adb
from keras_hybrid.benchmark.targets.options import Options
from keras_hybrid.benchmark.targets.phone import Phone
from keras_hybrid.benchmark.targets.tool_flags import Protocol
from keras_hybrid.benchmark.verification.cases import prepare_cases


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(server, port, seconds=20):
    """Waits for the server; False if it ended, e.g. because somebody took the port meanwhile."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.05)
            return server.poll() is None
    return False


@pytest.fixture
def adb_server(require, tmp_path, monkeypatch):
    """An adb server at a port of its own; `adb` of this test talks to it."""
    require(program="adb")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ANDROID_USER_HOME", str(home))
    monkeypatch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")  # look for no emulators
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    for _ in range(5):
        port = free_port()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        with open(tmp_path / "adb_server.log", "wb") as log:
            server = subprocess.Popen(
                [shutil.which("adb"), "-P", str(port), "nodaemon", "server"],
                stdout=log,
                stderr=log,
            )
        if answers(server, port):
            break
    else:
        pytest.fail((tmp_path / "adb_server.log").read_text())
    yield port
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@pytest.fixture
def make_phone(adb_server, tmp_path):
    """Makes phones and connects them."""
    phones = []

    def make(name="phone", *, connect=True, **options):
        phone = FakePhone(tmp_path / name, **options)
        phones.append(phone)
        if connect:
            assert "connected" in run_adb(["adb", "connect", phone.serial], 20)
            wait_for(lambda: Adb(phone.serial).state() == "device")
        return phone

    yield make
    for phone in phones:
        phone.device.unplug()


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def binary(tmp_path):
    return write_benchmark_model(tmp_path)


@pytest.fixture
def make_models(tmp_path):
    """Writes files that pass for models, with these names."""

    def make(*names):
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_bytes(b"\x1c\0\0\0TFL3" + os.fsencode(name) * 20)
        return find_models([str(folder / name) for name in names])

    return make


@pytest.fixture
def make_options(binary):
    """Options with short phases and no waiting."""

    def make(**changes):
        values = {
            "binaries": (str(binary),),
            "protocol": Protocol(2, 0.01, 10, 0.02, 5.0),
            "rules": Rules(cooldown_seconds=0.0, poll_seconds=0.05),
            "start_seconds": 10.0,
            "session": "test",
        }
        return Options(**{**values, **changes})

    return make


@pytest.fixture
def run_on(tmp_path, make_models, make_options):
    """Runs cells of one model on a phone; gives rows, outcome and the lines for the user."""

    def start(
        phone,
        *,
        cells=None,
        repetitions=1,
        minutes=0.0,
        resume=False,
        timeout=10.0,
        wait=3.0,
        **options,
    ):
        said = []
        cells = cells or [Cell(model, 1, "cpu") for model in make_models("a.tflite", "b.tflite")]
        adb = Adb(phone.serial, timeout=timeout)
        target = Phone(adb, make_options(**options), say=said.append)
        session = Session(
            tmp_path / "out",
            cells,
            Repetitions(repetitions, repetitions, minutes=minutes),
            resume=resume,
            reconnect_seconds=wait,
            say=said.append,
        )
        outcome = session.run([target])[0]
        path = tmp_path / "out" / "rows.jsonl"
        return (read_rows(path) if path.exists() else []), outcome, "\n".join(said)

    return start


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A real model of six convolutions whose inference takes some milliseconds."""
    import tensorflow as tf

    weights = tf.random.stateless_normal((3, 3, 32, 32), (0, 1)) * 0.05

    @tf.function(input_signature=[tf.TensorSpec((1, 64, 64, 32), tf.float32)])
    def network(x):
        for _ in range(6):
            x = tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME"))
        return tf.reduce_mean(x, (1, 2))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    path = tmp_path_factory.mktemp("small") / "model.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="session")
def image_model(tmp_path_factory, require):
    """A real classifier of images of 12 x 16 pixels into five classes."""
    require(module="ai_edge_litert")
    import tensorflow as tf

    weights = tf.random.stateless_normal((3, 3, 3, 5), (0, 1)) * 0.01

    @tf.function(input_signature=[tf.TensorSpec((1, 12, 16, 3), tf.float32, name="image")])
    def network(image):
        found = tf.nn.relu(tf.nn.conv2d(image, weights, 2, "SAME"))
        return {"scores": tf.reduce_mean(found, (1, 2))}

    module = tf.Module()
    module.network = network
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [network.get_concrete_function()], module
    )
    path = tmp_path_factory.mktemp("image_model") / "image.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three pictures of other sizes than the file takes, one on its side, and a broken one."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), "uint8")
        pixels[:, :, number] = 250
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        Image.fromarray(pixels).save(folder / f"{number}.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def cases(image_model, photos, tmp_path_factory):
    return prepare_cases(image_model, photos, tmp_path_factory.mktemp("cases"))


@pytest.fixture
def command(root):
    def start(*arguments, wait=True, environment=None):
        line = [sys.executable, str(root / "tflite" / "benchmark.py"), *map(str, arguments)]
        started = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        if not wait:
            return started
        output = started.communicate(timeout=300)[0]
        return started.returncode, output

    return start
