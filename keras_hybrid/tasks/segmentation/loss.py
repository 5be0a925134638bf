"""Cross-entropy over the pixels of label maps."""

import keras
from keras import ops

from keras_hybrid.layers.resizing import INTERPOLATIONS, resize

IGNORED_LABEL = 255
DIVISORS = ("labelled", "all")


@keras.saving.register_keras_serializable("keras_hybrid")
class SegmentationLoss(keras.losses.Loss):
    """Mean cross-entropy of logits that are stretched to the labels' size.

    Args:
        divisor: "labelled" for the mean over pixels that have a class, as MobileViT's authors
            train; "all" to count ignored pixels in the divisor, as MMSegmentation does.
        interpolation: of the logits, as of `keras_hybrid.layers.resizing.resize`.
        ignored_label: of pixels that count nothing.
        class_weights: factor on the loss of the pixels of each class, or None.
        name: of the loss.

    Call: label maps (batch, H, W) or (batch, H, W, 1) of integers, logits (batch, h, w, classes)
    -> a number.

    Raises:
        ValueError: for an unknown divisor or interpolation.

    Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.3; iFormer
    (https://arxiv.org/abs/2501.15369), Section 4.3.
    """

    def __init__(
        self,
        divisor: str = "labelled",
        interpolation: str = "bilinear",
        ignored_label: int = IGNORED_LABEL,
        class_weights: tuple[float, ...] | None = None,
        name: str = "segmentation_loss",
        **kwargs,
    ):
        # The mean is taken in `call`, over pixels, not over images; that of its one number is
        # Keras' to take, which scales it where several devices share a batch.
        super().__init__(name=name, reduction="sum_over_batch_size", **kwargs)
        for key, value, choices in (
            ("divisor", divisor, DIVISORS),
            ("interpolation", interpolation, INTERPOLATIONS),
        ):
            if value not in choices:
                raise ValueError(f"`{key}` must be one of {choices}. Received: {key}={value!r}")
        self.divisor = divisor
        self.interpolation = interpolation
        self.ignored_label = ignored_label
        self.class_weights = None if class_weights is None else tuple(class_weights)

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        if len(labels.shape) == 4:
            labels = ops.squeeze(labels, -1)
        height, width = ops.shape(labels)[1:3]
        classes = y_pred.shape[-1]
        if tuple(y_pred.shape[1:3]) != tuple(labels.shape[1:3]):
            y_pred = resize(y_pred, height, width, self.interpolation)
        labelled = ops.not_equal(labels, self.ignored_label)
        losses = ops.sparse_categorical_crossentropy(
            ops.where(labelled, labels, 0), y_pred, from_logits=True
        )  # (batch, H, W)
        counted = ops.cast(labelled, losses.dtype)
        if self.class_weights is not None:
            weights = ops.convert_to_tensor(self.class_weights, losses.dtype)
            losses = losses * ops.take(weights, ops.clip(labels, 0, classes - 1))
        total = ops.sum(losses * counted)
        if self.divisor == "all":
            count = ops.cast(ops.size(labels), losses.dtype)
        else:
            count = ops.maximum(ops.sum(counted), 1)  # no labelled pixel: 0
        return ops.reshape(total / count, (1,))

    def get_config(self):
        return {
            "divisor": self.divisor,
            "interpolation": self.interpolation,
            "ignored_label": self.ignored_label,
            "class_weights": self.class_weights,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_hybrid")
class LabelledMeanIoU(keras.metrics.MeanIoU):
    """Mean intersection over union of the classes, from one confusion matrix over all pixels.

    Args:
        num_classes: number of classes.
        interpolation: of logits that are not of the labels' size.
        ignored_label: of pixels that count nothing.
        name: of the metric.

    Update: label maps (batch, H, W) of integers, logits (batch, h, w, classes). Classes that
    neither labels nor predictions hold do not count.
    """

    def __init__(
        self,
        num_classes: int,
        interpolation: str = "bilinear",
        ignored_label: int = IGNORED_LABEL,
        name: str = "mean_iou",
        **kwargs,
    ):
        super().__init__(
            num_classes, ignore_class=ignored_label, sparse_y_pred=True, name=name, **kwargs
        )
        self.interpolation = interpolation
        self.ignored_label = ignored_label

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == 4:
            y_true = ops.squeeze(y_true, -1)
        height, width = ops.shape(y_true)[1:3]
        if len(y_pred.shape) == 4:
            if tuple(y_pred.shape[1:3]) != tuple(y_true.shape[1:3]):
                y_pred = resize(y_pred, height, width, self.interpolation)
            y_pred = ops.argmax(y_pred, axis=-1)
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "interpolation": self.interpolation,
            "ignored_label": self.ignored_label,
            "name": self.name,
            "dtype": self.dtype,
        }
