"""Mask R-CNN in three files: what an app does between them, in NumPy.

    image -> [first] -> maps, logits and offsets of regions
          -> proposals -> [box_head] -> detections -> [mask_head] -> masks

Needs LiteRT and NumPy alone. An app does the same in its own language: `propose`, `choose` and
`paste_masks` are all there is to it.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.litert import open_interpreter
from keras_hybrid.tasks.instances.mask_pasting import paste_masks

RULES, LABELS = "rules.json", "labels.txt"
FIRST, BOX_HEAD, MASK_HEAD = "first.tflite", "box_head.tflite", "mask_head.tflite"
FILES = (FIRST, BOX_HEAD, MASK_HEAD)
MASK_SIDE = 28


@dataclass(frozen=True)
class HostRules:
    """The numbers of the host's part.

    Attributes:
        height: of the input, in pixels.
        width: likewise.
        max_proposals: regions that the box head's file takes.
        max_detections: boxes that the mask head's file takes.
        region_candidates: of each level that are decoded and suppressed.
        region_overlap: over which a better region drops another one of its level.
        score_threshold: scores of detections are over it.
        overlap_threshold: over which a better detection drops another one of its class.
        strides: of the levels, in pixels.
        base_size: side of an anchor over its level's stride.
        aspect_ratios: of the anchors, height over width.
        center_scale: of the detections' offsets; the regions' have 1.
        size_scale: likewise.
        size_limit: of the exponents of both.
        classes: number of them.
        padding: the color right of a picture and below it, as the first file takes it.
    """

    height: int
    width: int
    max_proposals: int
    max_detections: int
    region_candidates: int
    region_overlap: float
    score_threshold: float
    overlap_threshold: float
    strides: tuple[int, ...]
    base_size: float
    aspect_ratios: tuple[float, ...]
    center_scale: float
    size_scale: float
    size_limit: float
    classes: int
    padding: tuple[float, float, float]


class InstanceFiles:
    """The three files of a Mask R-CNN, ready to run.

    Args:
        folder: with the files and their rules, of `keras_hybrid.export.instances.export_instances`.
        num_threads: of the interpreters.

    Raises:
        ValueError: for a folder that lacks one, rules of another version, or a file that LiteRT
            cannot open.
    """

    def __init__(self, folder: str | os.PathLike, num_threads: int = 1):
        folder = Path(os.fsdecode(folder))
        missing = [name for name in (*FILES, RULES) if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"A folder with {', '.join((*FILES, RULES))} is expected. "
                f"Received: folder={str(folder)!r} without {', '.join(missing)}"
            )
        given = json.loads((folder / RULES).read_text())
        wanted = {field.name for field in dataclasses.fields(HostRules)}
        if set(given) != wanted:
            raise ValueError(
                f"{RULES} of this version is expected: export the files again. Received: "
                f"{folder / RULES} without {sorted(wanted - set(given))}, with "
                f"{sorted(set(given) - wanted)} besides"
            )
        self.rules = HostRules(
            **{key: tuple(x) if isinstance(x, list) else x for key, x in given.items()}
        )
        interpreters = [open_interpreter(folder / name, num_threads) for name in FILES]
        self._first, self._box_head, self._mask_head = (
            interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
            for interpreter in interpreters
        )

    def detect(self, image: np.ndarray, size: tuple[int, int] | None = None) -> dict:
        """Objects of one image.

        Args:
            image: (height, width, 3), as the first file takes it, the picture in the upper left.
            size: height and width of the picture in it; None for all of it.

        Returns: "boxes" (n, 4), corners in pixels of the input; "scores" (n,); "labels" (n,);
            "masks" (n, height, width), truth values. The best first; empty where nothing is found.
        """
        height, width = size or (self.rules.height, self.rules.width)
        found = self.find(image, size)
        masks = paste_masks(found["masks"], found["boxes"], height, width)
        return {**found, "masks": masks}

    def find(self, image: np.ndarray, size: tuple[int, int] | None = None) -> dict:
        """The same with "masks" (n, 28, 28), from 0 to 1, each to be stretched over its box."""
        rules = self.rules
        height, width = size or (rules.height, rules.width)
        found = self._first(image=image[None])
        levels = range(len(rules.strides))
        regions = propose(
            [found[f"logits{i}"][0] for i in levels],
            [found[f"offsets{i}"][0] for i in levels],
            (height, width),
            rules,
        )
        nothing = {
            "boxes": np.zeros((0, 4), "float32"),
            "scores": np.zeros(0, "float32"),
            "labels": np.zeros(0, "int64"),
            "masks": np.zeros((0, MASK_SIDE, MASK_SIDE), "float32"),
        }
        if not len(regions):
            return nothing
        maps = {key: x for key, x in found.items() if key.startswith("map")}
        heads = self._box_head(**maps, regions=_filled(regions, rules.max_proposals))
        boxes, scores, labels = choose(
            regions,
            heads["logits"][0, : len(regions)],
            heads["offsets"][0, : len(regions)],
            (height, width),
            rules,
        )
        if not len(boxes):
            return nothing
        logits = self._mask_head(**maps, boxes=_filled(boxes, rules.max_detections))["logits"]
        own = logits[np.arange(len(boxes)), :, :, labels].astype("float64")
        masks = 1 / (1 + np.exp(-own))
        return {"boxes": boxes, "scores": scores, "labels": labels, "masks": masks}


def propose(
    logits: list[np.ndarray], offsets: list[np.ndarray], size: tuple[int, int], rules: HostRules
) -> np.ndarray:
    """The regions to look into: (n, 4), corners in pixels, the best first.

    Args:
        logits: of each level, (H, W, 3).
        offsets: of each level, (H, W, 12).
        size: height and width of the picture.
        rules: of the files.
    """
    ratios = np.sqrt(np.array(rules.aspect_ratios, "float32"))
    boxes, scores = [], []
    for score, offset, stride in zip(logits, offsets, rules.strides, strict=True):
        columns = score.shape[1] * len(ratios)
        score, offset = score.reshape(-1), offset.reshape(-1, 4)
        best = np.argsort(-score, kind="stable")[: rules.region_candidates]
        side = rules.base_size * stride
        ratio = ratios[best % len(ratios)]
        anchors = np.stack(
            [
                best % columns // len(ratios) * stride,
                best // columns * stride,
                side / ratio,
                side * ratio,
            ],
            axis=-1,
        ).astype("float32")
        found = _decoded(offset[best], anchors, (1.0, 1.0), size, rules)
        there = (found[:, 2:] > found[:, :2]).all(axis=1)
        found, score = found[there], score[best][there]
        kept = _suppressed(found, rules.region_overlap)
        boxes.append(found[kept])
        scores.append(score[kept])
    order = np.argsort(-np.concatenate(scores), kind="stable")[: rules.max_proposals]
    return np.concatenate(boxes)[order]


def choose(
    regions: np.ndarray,
    logits: np.ndarray,
    offsets: np.ndarray,
    size: tuple[int, int],
    rules: HostRules,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The detections: boxes (n, 4), scores (n,) and labels (n,), the best first.

    Args:
        regions: (n, 4), corners in pixels.
        logits: (n, classes + 1), the background last.
        offsets: (n, 4 * classes).
        size: height and width of the picture.
        rules: of the files.
    """
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (scores / scores.sum(axis=1, keepdims=True))[:, :-1]
    place, labels = np.nonzero(scores > rules.score_threshold)
    scores = scores[place, labels]
    order = np.argsort(-scores, kind="stable")
    place, labels, scores = place[order], labels[order], scores[order]
    offsets = offsets.reshape(len(offsets), -1, 4)[place, labels]
    x1, y1, x2, y2 = regions[place].T
    anchors = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=-1)
    scales = rules.center_scale, rules.size_scale
    boxes = _decoded(offsets, anchors, scales, size, rules)
    kept = np.zeros(len(boxes), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept[own[_suppressed(boxes[own], rules.overlap_threshold)]] = True
    kept = np.flatnonzero(kept)[: rules.max_detections]
    return boxes[kept], scores[kept], labels[kept].astype("int64")


def _decoded(offsets, anchors, scales, size, rules):
    """Corners inside of the picture of offsets (n, 4) from centers and sizes (n, 4)."""
    centers = anchors[:, :2] + offsets[:, :2] * scales[0] * anchors[:, 2:]
    exponents = np.clip(offsets[:, 2:] * scales[1], -rules.size_limit, rules.size_limit)
    half = np.exp(exponents) * anchors[:, 2:] / 2
    limits = np.array([size[1], size[0]] * 2, "float32")
    boxes = np.concatenate([centers - half, centers + half], axis=1)
    return np.clip(boxes, 0, limits).astype("float32")


def _suppressed(boxes, threshold):
    """Places of the boxes that no better one overlaps by more; the best come first."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left, kept = np.arange(len(boxes)), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(
            boxes[left, :2], boxes[best, :2]
        )
        common = np.maximum(sides, 0).prod(axis=1)
        union = areas[left] + areas[best] - common
        left = left[common <= threshold * union]
    return np.array(kept, int)


def _filled(boxes, count):
    """(1, count, 4): boxes without an area after those that are there."""
    filled = np.zeros((1, count, 4), "float32")
    filled[0, : len(boxes)] = boxes
    return filled
