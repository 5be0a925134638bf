"""iFormer (ICLR 2025) in int8: calibrated, then trained on with int8's roundings.

    python recipes/qat.py --run=runs/digits --out=runs/digits_int8
    python recipes/qat.py --run=runs/imagenet --variant=imagenet --out=runs/int8

Cost to expect: a step takes 1.3 times as long as in float (IFormerT, 64 px, batch 32,
processor time), for 3 epochs on the digits and a tenth of the published ones on ImageNet.
Published result: none in int8.

Reference: for ImageNet, a tenth of the epochs and a hundredth of the learning rate in float, down
to a hundredth of that, as NVIDIA's pytorch-quantization advises. In float: 300 epochs from a
learning rate of 4e-3 at a batch of 4,096 (https://arxiv.org/abs/2501.15369, Section 4.1). The
digits' numbers are this package's.
"""

from keras_hybrid.qat.recipe import QuantizedRecipe

VARIANTS = ("digits", "imagenet")


def get_recipe(variant: str = "digits") -> QuantizedRecipe:
    """The numbers; all others are the float run's."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    if variant == "imagenet":
        return QuantizedRecipe(
            profile="int8",
            epochs=30,
            learning_rate=4e-5,
            final_learning_rate=4e-7,
            freeze_after=0.5,
            calibration_images=1024,
            calibration_method="min_max",
            calibration_weights="mse",
        )
    return QuantizedRecipe(
        profile="int8",
        epochs=3,
        learning_rate=1e-4,
        final_learning_rate=1e-6,
        freeze_after=0.5,
        calibration_images=512,
        calibration_method="min_max",
        calibration_weights="mse",
    )
