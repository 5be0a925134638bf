"""The distribution of a name."""

from keras_hybrid.training.distribution.distribution import Distribution

DISTRIBUTIONS = ("none", "mirrored", "data_parallel")


def open_distribution(name: str, devices: int | None = None, cluster=None) -> Distribution:
    """The distribution of a name.

    Call it before anything is computed.

    Args:
        name: one of `DISTRIBUTIONS`.
        devices: of this process; None for all GPUs or TPUs.
        cluster: a `cluster.Cluster`, for "data_parallel".

    Raises:
        ValueError: for an unknown name, another backend than it needs, too few devices, or
            arguments that it has no use for.
    """
    if name not in DISTRIBUTIONS:
        raise ValueError(f"`distribute` must be one of {DISTRIBUTIONS}. Received: {name!r}")
    if name != "data_parallel" and cluster is not None and cluster.is_given:
        raise ValueError(
            "Several processes train with `distribute=data_parallel`. "
            f"Received: distribute={name}, {cluster}"
        )
    if name == "none":
        if devices not in (None, 1):
            raise ValueError(
                "Several devices need `distribute=mirrored` or `distribute=data_parallel`. "
                f"Received: distribute=none, devices={devices}"
            )
        return Distribution()
    if name == "mirrored":
        from keras_hybrid.training.distribution.mirrored import Mirrored  # needs TensorFlow

        return Mirrored(devices)
    from keras_hybrid.training.distribution.data_parallel import DataParallel  # needs JAX

    return DataParallel(devices, cluster)
