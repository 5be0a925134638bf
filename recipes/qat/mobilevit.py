"""MobileViT in int8.

    python recipes/qat.py --run=runs/digits --recipe=mobilevit --out=runs/digits_int8

For digits: minutes on two cores. For ImageNet, give `epochs=10 learning_rate=1e-5`.
"""

from keras_hybrid.export.quantized_training import QuantizedTraining


def get_recipe() -> QuantizedTraining:
    """The numbers; arguments after the program's flags replace them."""
    return QuantizedTraining(
        profile="int8",
        epochs=3,
        learning_rate=1e-4,
        final_learning_rate=1e-6,
        freeze_after=0.5,
        calibration_images=512,
        calibration_method="min_max",
        calibration_weights="mse",
    )
