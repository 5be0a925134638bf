"""Several devices and processes train as one device would, and no process outlives another."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_hybrid.training.distribution.cluster import Cluster, cluster_from_flags
from keras_hybrid.training.distribution.distribution import Distribution
from keras_hybrid.training.distribution.mirrored import Mirrored
from keras_hybrid.training.distribution.opening import open_distribution

PROGRAM = Path(__file__).parent / "distributed_program.py"
ENVIRONMENT = {
    # What is tested is what is computed, not how fast.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
BOUND = 90  # seconds within which a process whose peer is gone must have ended


def start(backend, folder, *arguments, program=PROGRAM, **variables):
    return subprocess.Popen(
        [sys.executable, program, *map(str, [folder, *arguments])],
        env={
            **os.environ,
            **ENVIRONMENT,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROGRAM.parent), *sys.path])),
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    """What the program printed at its end."""
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(printed.splitlines()[-1])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def history(folder):
    with np.load(folder / "state.npz", allow_pickle=False) as arrays:
        return json.loads(str(arrays["history"]))


def assert_same_metrics(found, expected):
    """Of all epochs of two folders; evaluation is with the averages of weights and statistics.

    Weights are not compared: the gradient of a bias before a batch norm is rounding alone, which
    AdamW makes as large as any other; with PyTorch's epsilon of 1e-8 more of them than with Keras'.
    """
    found, expected = history(found), history(expected)
    assert len(found) == len(expected)
    for now, wanted in zip(found, expected, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert now[name] == pytest.approx(wanted[name], abs=1e-3)


@pytest.mark.large
def test_two_mirrored_devices_train_as_one(tmp_path):
    one = start("tensorflow", tmp_path / "one", "none", 1)
    two = start("tensorflow", tmp_path / "two", "mirrored", 2)
    losses = result(one)["losses"]
    assert len(losses) == 20
    np.testing.assert_allclose(result(two)["losses"], losses, atol=1e-4)
    assert_same_metrics(tmp_path / "two", tmp_path / "one")


@pytest.mark.large
def test_processes_train_as_one_and_end_and_resume_together(tmp_path, require):
    """Two processes of two devices. One is told to end inside the first epoch, and both do after
    the same step; one kills itself in the third; both start again each time."""
    require(module="jax")
    one = start("jax", tmp_path / "one", "none", 1)

    def pair(kill=()):
        coordinator = f"127.0.0.1:{free_port()}"
        return [
            start("jax", tmp_path / f"process{i}", "data_parallel", 2, coordinator, 2, i, *kill[i:])
            for i in (0, 1)
        ]

    told = []
    for process in pair(kill=("never", "0.0 TERM")):
        printed, errors = process.communicate(timeout=600)
        assert process.returncode == 3, errors[-3000:]
        told.append(json.loads(printed.splitlines()[-1]))
    done = len(told[0]["losses"])
    assert [len(found["losses"]) for found in told] == [done, done] and done in (2, 4, 6)
    for found in told:
        assert found["stopped"].startswith("Stopped by SIGTERM after ")
    assert not (tmp_path / "process1").exists()

    first, second = pair(kill=("never", "2.1"))
    second.communicate(timeout=600)
    assert second.returncode == -signal.SIGKILL
    killed = time.monotonic()
    _, errors = first.communicate(timeout=BOUND)
    assert time.monotonic() - killed < BOUND and first.returncode == 1
    assert "Another process of this run has ended" in errors and "process 0 of 2" in errors
    assert "goes on after its last finished epoch" in errors
    assert len(history(tmp_path / "process0")) == 2
    assert not (tmp_path / "process1").exists()  # only the first writes

    first, second = pair()
    results = [result(process) for process in (first, second)]
    assert [found["writes"] for found in results] == [True, False]
    expected = result(one)["losses"]
    assert len(expected) == 20
    for found in results:  # they resumed after two of five epochs of four steps
        np.testing.assert_allclose(found["losses"], expected[8:], atol=1e-4)
    assert_same_metrics(tmp_path / "process0", tmp_path / "one")
    assert not (tmp_path / "process1").exists()


LONELY = """
import sys
from keras_hybrid.training.distribution.cluster import Cluster, join
join(Cluster(sys.argv[1], 2, int(sys.argv[2]), start_timeout=3))
"""


@pytest.mark.large
@pytest.mark.parametrize("process_id", [0, 1])
def test_waiting_for_the_others_ends(tmp_path, process_id, require):
    """The coordinator without a peer, and a peer without a coordinator."""
    require(module="jax")
    (tmp_path / "lonely.py").write_text(LONELY)
    address = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    process = start("jax", address, process_id, program=tmp_path / "lonely.py")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and time.monotonic() - started < 100
    assert "Waited 3 s for the other processes" in errors
    assert f"coordinator='{address}', num_processes=2, process_id={process_id}" in errors


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("a:1", None, 0), "`coordinator`, `num_processes`, `process_id` go together.*=None"),
        ((None, 2, None), "go together"),
        (("a", 2, 0), "must be host:port.*'a'"),
        (("a:b", 2, 0), "must be host:port"),
        (("a:70000", 2, 0), "must be host:port"),
        (("a:1", 0, 0), "`num_processes` must be 1 or more"),
        (("a:1", 2, 2), r"`process_id` must be in \[0, 1\]. Received: process_id=2"),
        (("a:1", 2, -1), r"`process_id` must be in \[0, 1\]"),
    ],
)
def test_impossible_places_are_refused(place, message):
    with pytest.raises(ValueError, match=message):
        Cluster(*place)
    with pytest.raises(ValueError, match="`heartbeat_timeout` must be 1 s or more"):
        Cluster(heartbeat_timeout=0)


def test_the_clusters_place_comes_from_the_flags_or_else_from_keras_variables(monkeypatch):
    assert not cluster_from_flags(None, None, None).is_given
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "10.0.0.1:9,10.0.0.2:9")
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="go together"):
        cluster_from_flags(None, None, None)
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "1")
    assert cluster_from_flags(None, None, None) == Cluster("10.0.0.1:9", 2, 1)
    assert cluster_from_flags("b:2", 3, 0, start_timeout=7) == Cluster("b:2", 3, 0, 7)
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "one")
    with pytest.raises(ValueError, match="KERAS_DISTRIBUTION_PROCESS_ID must be a number"):
        cluster_from_flags(None, None, None)


def test_distributions_that_do_not_fit_are_refused(recipe):
    place = Cluster("a:1", 2, 0)
    assert type(open_distribution("none", cluster=Cluster())) is Distribution
    for arguments, message in [
        (("both",), "must be one of .* Received: 'both'"),
        (("data_parallel",), "needs KERAS_BACKEND=jax. Received: the backend 'tensorflow'"),
        (("none", None, place), "distribute=none, coordinator='a:1'"),
        (("mirrored", None, place), "`distribute=data_parallel`. Received: distribute=mirrored"),
        (("none", 2), "Several devices need .* devices=2"),
        (("mirrored", 0), "`devices` must be 1 or more. Received: devices=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            open_distribution(*arguments)
    mirrored = Mirrored(1)
    mirrored.check(recipe)
    with pytest.raises(ValueError, match="do not accumulate on mirrored .*accumulation_steps=2"):
        mirrored.check(dataclasses.replace(recipe, accumulation_steps=2))


def test_mirrored_needs_tensorflow(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs KERAS_BACKEND=tensorflow. Received: .*'jax'"):
        open_distribution("mirrored")
