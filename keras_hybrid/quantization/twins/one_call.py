"""Layers that are called several times: one twin where it can be, or one for each call."""

from collections.abc import Iterable

from keras_hybrid.keras_private import count_calls


class TwinOfOneCall:
    """What twins with weights share: they know where others have the same weights.

    A rounding of what is computed belongs to one call, so that twins with such inside have weights
    of their own for each call. These are equal until training changes each of them by itself.

    Args:
        shared_layer: name of the float model's layer, where it is called several times and the
            twin is not all of these calls; None else.

    Attributes:
        is_of_all_calls: whether a twin of the class is called as often as the float model's layer
            where its calls are rewritten alike: nothing inside is rounded but weights.
    """

    is_of_all_calls = False

    def __init__(self, *args, shared_layer: str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.shared_layer = shared_layer

    def check_training(self, training: bool | None):
        """Raises a ValueError where weights that others have, too, would be trained.

        Args:
            training: of the layer's call.
        """
        if training and self.shared_layer is not None and self.trainable:
            raise ValueError(
                f"The layer {self.shared_layer!r} is called several times in the float model, and "
                "each call has a quantised layer with weights of its own: training would change "
                "each of them by itself. Train the float model and quantise it after, or set "
                "`trainable = False` of these layers. "
                f"Received: training=True, layer {self.name!r}"
            )

    def get_config(self):
        return {**super().get_config(), "shared_layer": self.shared_layer}


def release_twins_of_all_calls(twins: Iterable[TwinOfOneCall], num_calls: dict[str, int]):
    """Lets twins be trained that alone stand for all calls of a layer of the float model.

    Args:
        twins: of a model.
        num_calls: of each of the float model's layers that is called several times, by name.
    """
    of_layer: dict[str, list] = {}
    for twin in twins:
        of_layer.setdefault(twin.shared_layer or "", []).append(twin)
    for name, count in num_calls.items():
        found = of_layer.get(name, [])
        if all(count_calls(twin) == count for twin in found):
            for twin in found:
                twin.shared_layer = None
