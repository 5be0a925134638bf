"""The width that a run computes in."""

import keras

from keras_hybrid.training.recipe.common import CommonRecipe

# The first of NVIDIA's GPUs that compute in bfloat16 (Ampere).
BFLOAT16_CAPABILITY = (8, 0)


def precision_of(recipe: CommonRecipe) -> str:
    """The recipe's precision, as a policy of Keras; "auto" as this machine's devices decide it."""
    if recipe.precision != "auto":
        return recipe.precision
    return "mixed_bfloat16" if has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether the devices here compute in bfloat16 as they do in float32, or faster.

    TPUs do, and GPUs of compute capability 8.0 and more; a CPU mostly pretends to.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return _any_has_it(
            (device.platform, getattr(device, "compute_capability", None))
            for device in jax.local_devices()
        )
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_logical_devices("TPU"):
            return True
        details = map(
            tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU")
        )
        return _any_has_it(("gpu", found.get("compute_capability")) for found in details)
    return False


def _any_has_it(devices):
    """Of (platform, compute capability): all of a machine's are alike."""
    for platform, capability in devices:
        if platform == "tpu":
            return True
        if isinstance(capability, str):  # "8.0", as JAX has it
            capability = tuple(map(int, capability.split(".")))
        if capability is not None and tuple(capability) >= BFLOAT16_CAPABILITY:
            return True
    return False
