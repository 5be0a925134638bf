"""What a recipe of quantisation-aware training is: few numbers, the rest is the float run's."""

import dataclasses
from dataclasses import dataclass

from keras_hybrid.quantization.ranges.calibration import KERNEL_RANGES, METHODS
from keras_hybrid.quantization.rules import PROFILES
from keras_hybrid.quantization.twins.frozen_norm import BATCH_NORMS
from keras_hybrid.surgery.pipelines import check_target
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.detection import DetectionRecipe
from keras_hybrid.training.recipe.objects import SQUARE
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe


@dataclass(frozen=True)
class QuantizedRecipe:
    """The numbers of quantisation-aware training; all others are the float run's.

    Attributes:
        profile: of `keras_hybrid.quantize`.
        target: likewise, the engine that the file is for; None for the profile's own: "npu" for
            "int8", "cpu" for "int8_cpu".
        keep_float: names of layers that stay float.
        batch_norm: of `keras_hybrid.quantize`: "folded", or "frozen" to train its scale and offset.
        epochs: passes over the training split; 0 for post-training quantisation alone.
        learning_rate: its peak, at the float run's reference batch size.
        final_learning_rate: where the cosine ends.
        warmup_epochs: over which it rises.
        weight_decay: of kernels.
        label_smoothing: None for the float run's.
        freeze_after: share of the steps after which the activations' ranges stay as they are.
        calibration_images: of the training split, preprocessed as for evaluation.
        calibration_method: of `keras_hybrid.calibrate`.
        calibration_weights: likewise.
    """

    profile: str = "int8"
    target: str | None = None
    keep_float: tuple[str, ...] = ()
    batch_norm: str = "folded"
    epochs: int = 3
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float | None = None
    freeze_after: float = 0.5
    calibration_images: int = 512
    calibration_method: str = "min_max"
    calibration_weights: str = "max"

    def __post_init__(self):
        for name, good, expected in (
            ("profile", self.profile in PROFILES, f"one of {PROFILES}"),
            ("batch_norm", self.batch_norm in BATCH_NORMS, f"one of {BATCH_NORMS}"),
            ("calibration_method", self.calibration_method in METHODS, f"one of {METHODS}"),
            (
                "calibration_weights",
                self.calibration_weights in KERNEL_RANGES,
                f"one of {KERNEL_RANGES}",
            ),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("learning_rate", self.learning_rate > 0, "positive"),
            ("final_learning_rate", self.final_learning_rate >= 0, "0 or more"),
            ("warmup_epochs", self.warmup_epochs >= 0, "0 or more"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("calibration_images", self.calibration_images >= 1, "at least 1"),
            ("freeze_after", 0 <= self.freeze_after <= 1, "in [0, 1]"),
        ):
            if not good:
                raise ValueError(
                    f"`{name}` must be {expected}. Received: {name}={getattr(self, name)!r}"
                )

        check_target(self.profile, self.target)

    def training_recipe(self, trained: CommonRecipe) -> CommonRecipe:
        """The recipe to train on with: that of the float run, with these numbers.

        Augmentation, batch and resolution stay; what made the float weights is left out.

        Raises:
            ValueError: for a run of another task.
        """
        if isinstance(trained, DetectionRecipe):
            # A saved network of one size takes no others.
            side = None if trained.fit == SQUARE else trained.shorter_side
            return dataclasses.replace(trained, shorter_side=side, **self._common())
        if isinstance(trained, SegmentationRecipe):
            head = {key: value for key, value in trained.head_options.items() if key != "auxiliary"}
            # A file has one size, and a saved network no second head.
            return dataclasses.replace(
                trained, head_options=head, evaluation_fit="stretch", **self._common()
            )
        if not isinstance(trained, Recipe):
            raise ValueError(
                "A run of a classifier, a detector or a network for segmentation is expected; "
                "`keras-hybrid convert --parts --precision=int8` writes a Mask R-CNN's backbone in "
                "int8. "
                f"Received: a run of a {type(trained).__name__}"
            )
        smoothing = self.label_smoothing
        return dataclasses.replace(
            trained,
            **self._common(),
            label_smoothing=trained.label_smoothing if smoothing is None else smoothing,
            new_classifier=False,
            teacher=None,
            teacher_resolution=None,
            teacher_preprocessing=None,
            teacher_cache=None,
            scales=(),
        )

    def _common(self):
        """Of recipes of every task."""
        return dict(
            epochs=max(self.epochs, 1),
            learning_rate=self.learning_rate,
            final_learning_rate=self.final_learning_rate,
            warmup_epochs=self.warmup_epochs,
            warmup_steps=0,
            weight_decay=self.weight_decay,
            decay="cosine",
            decay_epochs=(),
            drop_path_rate=0.0,
            ema_momentum=None,
            initial_weights=None,
            layer_decay=None,
            frozen_stages=None,
            precision="float32",
            jit_compile=False,
        )
