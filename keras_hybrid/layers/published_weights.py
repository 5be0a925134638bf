"""Where a network's weights came from, kept with a layer."""

import keras


@keras.saving.register_keras_serializable("keras_hybrid")
class PublishedWeights(keras.initializers.Initializer):
    """The initializer of a kernel that was loaded from published weights.

    It draws as `initializer` does, and remembers the published weights by name. As a part of the
    layer's configuration it goes wherever the layer goes: into `.keras` files, clones, networks
    with another head and networks inside others. What the images must look like follows from it.

    Args:
        preset: name of the published weights, such as "MobileViTS/imagenet_apple".
        channel_order: order of the image's channels that the kernel takes, "RGB" or "BGR".
        initializer: the initializer of the layer as it was built.
    """

    def __init__(self, preset: str, channel_order: str, initializer="glorot_uniform"):
        self.preset = preset
        self.channel_order = channel_order
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None):
        return self.initializer(shape, dtype=dtype)

    def get_config(self):
        return {
            "preset": self.preset,
            "channel_order": self.channel_order,
            "initializer": keras.initializers.serialize(self.initializer),
        }
