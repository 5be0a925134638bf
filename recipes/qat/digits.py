"""Any network on the digits in int8: calibrated, then trained on with int8's roundings.

    python recipes/qat.py --run=runs/digits --out=runs/digits_int8

Cost to expect: 3 epochs; a step takes 1.3 (IFormerT, MobileViTXXS) to 2.1 times as long as in float
(MobileFormer26M; 64 px, batch 32, processor time).
Published result: none; the numbers are this package's.
"""

from keras_hybrid.workflows.int8_recipe import QuantizedRecipe


def get_recipe() -> QuantizedRecipe:
    """The numbers; all others are the float run's."""
    return QuantizedRecipe(
        profile="int8",
        epochs=3,
        learning_rate=1e-4,
        final_learning_rate=1e-6,
        freeze_after=0.0,  # as calibrated: short runs move no range far, and trace the step once
        calibration_images=512,
        calibration_method="min_max",
        calibration_weights="mse",
    )
