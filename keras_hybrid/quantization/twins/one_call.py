"""Layers that are called several times have a twin for each call: not to be trained unawares."""


class TwinOfOneCall:
    """What twins with weights share: they know where others have the same weights.

    A rounding belongs to one call, so that each call has a twin with weights of its own. These are
    equal until training changes each of them by itself.

    Args:
        shared_layer: name of the float model's layer, where it is called several times and the
            twin is one of these calls; None else.
    """

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
