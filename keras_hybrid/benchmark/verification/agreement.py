"""How far the outputs of a device are from the expected ones: decibels, and the class."""

import dataclasses
import math
from collections.abc import Sequence

from keras_hybrid.benchmark.verification.cases import Tensor

EXACT_DB = 200.0  # stands for outputs that are equal


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Outputs of a device beside the expected ones.

    Attributes:
        images: that were compared.
        decibels: of the expected values over the differences, all images together; None where the
            file has no output of real values.
        worst_decibels: of the worst image.
        agreeing: images of the same class (the largest of an output (1, n)), None without classes.
        equal: share of equal entries of outputs that are whole numbers, None without.
        not_finite: values that are infinite or no number where the expected one is finite.
    """

    images: int
    decibels: float | None = None
    worst_decibels: float | None = None
    agreeing: int | None = None
    equal: float | None = None
    not_finite: int = 0

    @property
    def top1(self) -> float | None:
        """Share of images of the same class."""
        return None if self.agreeing is None else self.agreeing / self.images


@dataclasses.dataclass(frozen=True)
class Limits:
    """When outputs are those of another computation.

    Kernels of other precision differ: half precision on a GPU leaves 40 dB and more, other
    roundings of int8 20 to 40; what leaves out or mixes up an operator leaves less than 10.

    Attributes:
        least_decibels: of all images together.
        least_top1: share of images of the same class, and of equal entries of whole numbers.
    """

    least_decibels: float = 20.0
    least_top1: float = 0.9

    def __post_init__(self):
        if not 0 <= self.least_top1 <= 1 or not math.isfinite(self.least_decibels):
            raise ValueError(
                f"0 <= least_top1 <= 1 and finite decibels are expected. Received: {self}"
            )

    def objections(self, found: Agreement) -> list[str]:
        """Why the outputs are wrong, in words for the row's notes; empty if they are right."""
        reasons = []
        if found.not_finite:
            reasons.append(f"{found.not_finite} output values are not finite")
        if found.decibels is not None and not found.decibels >= self.least_decibels:
            reasons.append(
                f"outputs are {found.decibels:.1f} dB from this machine's "
                f"(at least {self.least_decibels:g} expected)"
            )
        if found.top1 is not None and found.top1 < self.least_top1:
            reasons.append(f"{found.agreeing} of {found.images} images are of the same class")
        if found.equal is not None and found.equal < self.least_top1:
            reasons.append(f"{found.equal:.1%} of the whole numbers are equal")
        return reasons


def compare_outputs(
    outputs: Sequence[Tensor], expected: Sequence[bytes], actual: Sequence[bytes]
) -> Agreement:
    """Compares outputs image by image.

    Args:
        outputs: of the file, in order.
        expected, actual: for each image the bytes of all outputs, one after the other's.

    Raises:
        ValueError: if the number of bytes is not the file's.
    """
    import numpy as np

    signals, errors, agreeing, equal, not_finite = [], [], [], [], 0
    for number, (should, does) in enumerate(zip(expected, actual, strict=True)):
        if len(does) != len(should):
            raise ValueError(
                f"Outputs of {len(should)} bytes are expected. Received: {len(does)} for image "
                f"{number}"
            )
        place, signal, error = 0, 0.0, 0.0
        for tensor in outputs:
            size = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
            pair = [
                np.frombuffer(data[place : place + size], tensor.dtype).astype("float64")
                for data in (should, does)
            ]
            place += size
            if not tensor.scale and not np.issubdtype(tensor.dtype, np.floating):
                equal.append(float((pair[0] == pair[1]).mean()))
                continue
            if len(tensor.shape) == 2 and tensor.shape[-1] > 1:
                agreeing.append(bool(pair[0].argmax() == pair[1].argmax()))
            if tensor.scale:
                pair = [(value - tensor.zero_point) * tensor.scale for value in pair]
            lost = ~np.isfinite(pair[1]) & np.isfinite(pair[0])
            not_finite += int(lost.sum())
            usable = np.isfinite(pair[0]) & np.isfinite(pair[1])
            signal += float((pair[0][usable] ** 2).sum())
            error += float(((pair[0] - pair[1])[usable] ** 2).sum())
        signals.append(signal)
        errors.append(error)
    heads = max(1, len(agreeing) // max(1, len(expected)))
    images = [agreeing[n : n + heads] for n in range(0, len(agreeing), heads)]
    has_values = len(equal) < len(expected) * len(outputs)
    return Agreement(
        images=len(expected),
        decibels=_decibels(sum(signals), sum(errors)) if has_values else None,
        worst_decibels=min(map(_decibels, signals, errors)) if has_values else None,
        agreeing=sum(map(all, images)) if images else None,
        equal=sum(equal) / len(equal) if equal else None,
        not_finite=not_finite,
    )


def _decibels(signal, error):
    if error == 0:
        return EXACT_DB
    return min(EXACT_DB, 10 * math.log10(max(signal, 1e-300) / error))
