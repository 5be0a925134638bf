"""How the processes of a run on several hosts find each other, and what happens when one is lost.

Only for JAX, whose coordination service does the work: the first process serves, all send signs of
life, and who misses another's ends.
"""

import os
import sys
import threading
from dataclasses import dataclass

# What JAX' collectives and coordination say when a process is gone, whatever carries them.
LOST = ("gloo", "nccl", "rccl", "coordination", "heartbeat", "connection", "socket", "unavailable")
# Keras' own variables for the same three values.
ENVIRONMENT = {
    "coordinator": "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "num_processes": "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "process_id": "KERAS_DISTRIBUTION_PROCESS_ID",
}


class ProcessLostError(ConnectionError):
    """Another process of the run has ended, or cannot be reached any more."""


@dataclass(frozen=True)
class Cluster:
    """Where a process stands among those that train together.

    Without the first three, the cluster's own environment is asked: Keras' variables, Slurm, Open
    MPI, GKE and Cloud TPU, as `jax.distributed.initialize` does. Where that says nothing either,
    the process is alone.

    Attributes:
        coordinator: "host:port" of the first process; the port is any free one.
        num_processes: in all.
        process_id: from 0, a different one in each.
        start_timeout: seconds to wait for the others at the start.
        heartbeat_timeout: seconds without a sign of life after which a process counts as lost.

    Raises:
        ValueError: for one or two of the first three, or for values out of range.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    start_timeout: int = 300
    heartbeat_timeout: int = 100

    def __post_init__(self):
        given = {name: getattr(self, name) for name in ENVIRONMENT}
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            raise ValueError(
                f"{', '.join(f'`{name}`' for name in given)} go together. Received: {_spell(given)}"
            )
        if not missing:
            host, _, port = self.coordinator.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(
                    "`coordinator` must be host:port of the first process. "
                    f"Received: coordinator={self.coordinator!r}"
                )
            if self.num_processes < 1:
                raise ValueError(
                    f"`num_processes` must be 1 or more. Received: {self.num_processes}"
                )
            if not 0 <= self.process_id < self.num_processes:
                raise ValueError(
                    f"`process_id` must be in [0, {self.num_processes - 1}]. "
                    f"Received: process_id={self.process_id}"
                )
        for name in ("start_timeout", "heartbeat_timeout"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 s or more. Received: {getattr(self, name)}")

    def __str__(self):
        return _spell({name: getattr(self, name) for name in ENVIRONMENT})

    @property
    def is_given(self) -> bool:
        """Whether the place was told, not left to the environment."""
        return self.coordinator is not None


def cluster_from_flags(
    coordinator: str | None, num_processes: int | None, process_id: int | None, **timeouts: int
) -> Cluster:
    """A cluster from the command line, or else from Keras' environment variables.

    Raises:
        ValueError: as `Cluster` does, and for variables that are no numbers.
    """
    values = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    if all(value is None for value in values.values()):
        values = {name: os.environ.get(variable) for name, variable in ENVIRONMENT.items()}
        if values["coordinator"]:
            values["coordinator"] = values["coordinator"].split(",")[0]  # all hosts, or the first
        for name in ("num_processes", "process_id"):
            try:
                values[name] = None if values[name] is None else int(values[name])
            except ValueError:
                raise ValueError(
                    f"The variable {ENVIRONMENT[name]} must be a number. Received: {values[name]!r}"
                ) from None
    return Cluster(**values, **timeouts)


def join(cluster: Cluster):
    """Waits until all processes are there; the process ends where they are not in time.

    Call it before JAX is used.
    """
    import jax

    timer = threading.Timer(cluster.start_timeout, _give_up, [cluster])
    timer.daemon = True
    timer.start()
    # JAX itself would end the process too, without saying whom it waited for.
    options = {
        "initialization_timeout": cluster.start_timeout + 60,
        "heartbeat_timeout_seconds": cluster.heartbeat_timeout,
    }
    try:
        if cluster.is_given:
            jax.distributed.initialize(
                cluster.coordinator, cluster.num_processes, cluster.process_id, **options
            )
        else:
            _join_by_environment(jax, options)
    finally:
        timer.cancel()


def _join_by_environment(jax, options):
    try:
        jax.distributed.initialize(**options)
    except ValueError as error:
        if "coordinator_address should be defined" not in str(error):
            raise  # an environment that says one half
        # No cluster: the process is alone.


def _give_up(cluster):
    """Runs in a thread, because JAX waits where no exception reaches it."""
    end_process(
        f"Waited {cluster.start_timeout} s for the other processes. All must be started with the "
        "same coordinator, a free port of the first process' host that the others can reach, and "
        f"each with a process_id of its own. Received: {cluster}"
    )


def end_process(message: str):
    """Ends the process at once with status 1.

    Without the usual farewells: there JAX waits for processes that are gone, while those that are
    alive wait for this one.
    """
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def is_loss(error: Exception) -> bool:
    """Whether an error of JAX says that another process is gone."""
    import jax

    if not isinstance(error, (ValueError, jax.errors.JaxRuntimeError)):
        return False
    text = str(error).lower()
    return any(word in text for word in LOST) and any(
        word in text for word in ("failed", "closed", "reset", "timed out", "unhealthy", "deadline")
    )


def _spell(values):
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
