"""What the file of a detector gives: raw outputs, decoded boxes and scores, or detections."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.tasks.detection.anchors import JoinLevels, anchors_of, to_config
from keras_hybrid.tasks.detection.systems import DetectionSystem, anchor_boxes, system_of

RAW, DECODED, TFLITE = "raw", "decoded", "tflite"
POSTPROCESSES = (RAW, DECODED, TFLITE)
OPERATOR = "TFLite_Detection_PostProcess"
MAX_DETECTIONS = 100
# Names of the operator's outputs in the file, in its order.
NAMES = ("boxes", "classes", "scores", "count")


@dataclass(frozen=True, eq=False)
class DetectionOutput:
    """What is to be done with a detector's raw outputs inside of the file.

    Attributes:
        postprocess: "decoded" for boxes x1, y1, x2, y2 as shares of the input's sides and scores,
            of every anchor, in plain operators; "tflite" for the detections themselves.
        system: of the detector.
        anchors: (n, 4): centers and sizes, as shares of the input's sides.
        max_detections: of "tflite".
        score_threshold: likewise.
    """

    postprocess: str
    system: DetectionSystem
    anchors: np.ndarray
    max_detections: int
    score_threshold: float

    def __call__(self, outputs):
        """The file's outputs by their names, of the model's in a TensorFlow graph."""
        scores = self._scores(outputs["classes"])
        if self.postprocess == DECODED:
            return {"boxes": self._decoded(outputs["boxes"]), "scores": scores}
        return self._detected(outputs["boxes"], scores)

    def _scores(self, logits):
        import tensorflow as tf

        if self.system.background:
            return tf.nn.softmax(logits, axis=-1)[..., 1:]
        return tf.sigmoid(logits)

    def _decoded(self, offsets):
        import tensorflow as tf

        coder, anchors = self.system.coder, self.anchors[None].astype("float32")
        center = offsets[..., :2] * (coder.center_scale * anchors[..., 2:]) + anchors[..., :2]
        half = tf.exp(self._exponents(offsets[..., 2:], coder.size_scale)) * (anchors[..., 2:] / 2)
        return tf.concat([center - half, center + half], axis=-1)

    def _exponents(self, sizes, scale):
        import tensorflow as tf

        limit = self.system.coder.size_limit
        sizes = sizes * scale if scale != 1 else sizes
        return sizes if limit is None else tf.clip_by_value(sizes, -limit, limit)

    def _detected(self, offsets, scores):
        """The outputs of TensorFlow Lite's own operator, which wants y before x."""
        import tensorflow as tf

        coder, count = self.system.coder, scores.shape[-1]
        sizes = self._exponents(offsets[..., 2:], 1.0)
        turned = tf.concat([offsets[..., :2][..., ::-1], sizes[..., ::-1]], axis=-1)
        numbers = {
            "max_detections": ("i", self.max_detections),
            "max_classes_per_detection": ("i", 1),
            "detections_per_class": ("i", self.max_detections),
            "use_regular_nms": ("b", "true"),
            "nms_score_threshold": ("f", self.score_threshold),
            "nms_iou_threshold": ("f", self.system.rule.overlap_threshold),
            "num_classes": ("i", count),
            "y_scale": ("f", 1 / coder.center_scale),
            "x_scale": ("f", 1 / coder.center_scale),
            "h_scale": ("f", 1 / coder.size_scale),
            "w_scale": ("f", 1 / coder.size_scale),
        }
        signature = [f'name: "{OPERATOR}"'] + [
            f'attr {{ key: "{key}" value {{ {kind}: {value} }} }}'
            for key, (kind, value) in numbers.items()
        ]
        most = self.max_detections

        # The converter puts the operator in the function's place; only its shapes count.
        @tf.function(experimental_implements=" ".join(signature))
        def post_process(offsets, scores, anchors):
            return (
                tf.zeros((1, most, 4)) + 0 * tf.reduce_sum(offsets) * tf.reduce_sum(anchors),
                tf.zeros((1, most)) + 0 * tf.reduce_sum(scores),
                tf.zeros((1, most)),
                tf.zeros((1,)),
            )

        anchors = tf.constant(self.anchors[:, [1, 0, 3, 2]], "float32")
        return dict(zip(NAMES, post_process(turned, scores, anchors), strict=True))


def is_detector(model: keras.Model) -> bool:
    """Whether the model is a detector of this package."""
    return any(isinstance(layer, JoinLevels) for layer in model.layers)


def object_classes(model: keras.Model) -> int:
    """How many classes of objects a detector has, without the background."""
    return model.output["classes"].shape[-1] - system_of(model).background


def detection_output(
    model: keras.Model,
    postprocess: str,
    image_shape: tuple[int, ...],
    max_detections: int = MAX_DETECTIONS,
    score_threshold: float | None = None,
) -> DetectionOutput | None:
    """What a file gives by the arguments of `export_tflite`; None for the model's outputs as is.

    Args:
        model: to be exported.
        postprocess: one of `POSTPROCESSES`.
        image_shape: of the input, with the batch.
        max_detections: of "tflite".
        score_threshold: likewise; None for the system's.

    Raises:
        ValueError: for an unknown choice, a choice that is for detectors alone, or no detections.
    """
    if postprocess not in POSTPROCESSES:
        raise ValueError(
            f"`postprocess` must be one of {POSTPROCESSES}. Received: postprocess={postprocess!r}"
        )
    if postprocess == RAW:
        return None
    if not is_detector(model):
        raise ValueError(
            f"postprocess={postprocess!r} is for a detector, as `keras_hybrid.ssdlite` builds it. "
            f"Received: {model.name} with outputs {model.output_shape}"
        )
    if not isinstance(max_detections, int) or max_detections < 1:
        raise ValueError(
            f"`max_detections` must be a positive integer. Received: {max_detections!r}"
        )
    system = system_of(model)
    threshold = system.rule.score_threshold if score_threshold is None else score_threshold
    anchors = anchors_in_shares(model, image_shape)
    return DetectionOutput(postprocess, system, anchors, max_detections, float(threshold))


def anchors_in_shares(model: keras.Model, image_shape: tuple[int, ...]) -> np.ndarray:
    """The anchors of a detector, centers and sizes, as shares of the input's width and height."""
    height, width = image_shape[1:3]
    anchors = anchor_boxes(anchors_of(model), height, width)
    if system_of(model).shares:
        return anchors
    return anchors / np.array([width, height, width, height], "float32")


def detector_record(
    model: keras.Model,
    postprocess: str,
    image_shape: tuple[int, ...],
    padding: Sequence[float] = (0.0, 0.0, 0.0),
) -> dict | None:
    """What an app needs to know to read a detector's file; None for other models.

    The anchors follow from "anchors", and so do boxes from raw outputs by "coder":
    center = offset * center_scale * anchor's side + anchor's center, and
    side = exp(offset * size_scale) * anchor's side.

    Args:
        model: that the file is made of.
        postprocess: one of `POSTPROCESSES`.
        image_shape: of the input, with the batch.
        padding: the color beside an image that keeps its aspect, as the file takes it.
    """
    if not is_detector(model):
        return None
    system = system_of(model)
    record = {
        "postprocess": postprocess,
        "system": system.name,
        "anchors": to_config(anchors_of(model)),
        "coder": dataclasses.asdict(system.coder),
        "background_first": system.background,
        "classes": object_classes(model),
        "input_size": list(image_shape[1:3]),
        "padding": list(padding),
        "image": "padded right and below" if system.keeps_aspect else "stretched",
        "rule": dataclasses.asdict(system.rule),
    }
    return json.loads(json.dumps(record))
