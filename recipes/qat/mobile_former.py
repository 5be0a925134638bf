"""Mobile-Former on ImageNet in int8: calibrated, then trained on with int8's roundings.

    python recipes/qat.py --run=runs/imagenet --out=runs/imagenet_int8

Cost to expect: a step takes 2.1 times as long as in float (MobileFormer26M, 64 px, batch 32,
processor time), for a tenth of the published epochs.
Published result: none in int8.

Reference: a tenth of the epochs and a hundredth of the learning rate in float, down
to a hundredth of that, as NVIDIA's pytorch-quantization advises. In float: 450 epochs from a
learning rate of 8e-4 to 1e-3 (https://arxiv.org/abs/2108.05895, Table 11).
"""

from keras_hybrid.workflows.int8_recipe import QuantizedRecipe


def get_recipe() -> QuantizedRecipe:
    """The numbers; all others are the float run's."""
    return QuantizedRecipe(
        profile="int8",
        epochs=45,
        learning_rate=1e-5,
        final_learning_rate=1e-7,
        freeze_after=0.5,
        calibration_images=1024,
        calibration_method="min_max",
        calibration_weights="mse",
    )
