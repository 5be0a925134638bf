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
        decibels: how images differ in the expected values, over the differences between the two;
            all images together. Scores that are much the same for every image agree well with any
            image's: what they have in common says nothing. None where the file has no output of
            real values.
        worst_decibels: of the worst image.
        variation_decibels: how images differ in the expected values, over these values.
        agreeing: images of the same class (the largest of an output (1, n)), None without classes.
        equal: share of equal entries of outputs that are whole numbers, None without.
        not_finite: values that are infinite or no number where the expected one is finite.
    """

    images: int
    decibels: float | None = None
    worst_decibels: float | None = None
    variation_decibels: float | None = None
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

    Kernels of other precision differ: half precision on a GPU leaves 30 dB and more, other
    roundings of int8 15 or so. What leaves out or mixes up an operator, or answers another image,
    leaves about 0.

    Attributes:
        least_decibels: of all images together.
        least_top1: share of images of the same class, and of equal entries of whole numbers.
        least_variation: decibels by which images must differ for a small distance to be an answer.
    """

    least_decibels: float = 10.0
    least_top1: float = 0.9
    least_variation: float = -40.0

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

    def doubt(self, found: Agreement) -> str | None:
        """Why these images cannot tell a right answer from a wrong one, None if they can."""
        variation = found.variation_decibels
        if variation is None or variation >= self.least_variation:
            return None
        if found.decibels - variation < -self.least_variation:  # far off, whatever the image
            return None
        return (
            "the outputs hardly depend on these images (they differ by "
            f"{variation:.0f} dB): take other images, or a trained network"
        )


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

    for number, (should, does) in enumerate(zip(expected, actual, strict=True)):
        if len(does) != len(should):
            raise ValueError(
                f"Outputs of {len(should)} bytes are expected. Received: {len(does)} for image "
                f"{number}"
            )
    count = len(expected)
    signals, powers, errors = (np.zeros(count) for _ in range(3))
    same_class = np.ones(count, bool)
    equal, not_finite, place, has_values, has_classes = [], 0, 0, False, False
    for tensor in outputs:
        size = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize

        def values(contents, number, place=place, size=size, tensor=tensor):
            content = contents[number][place : place + size]
            found = np.frombuffer(content, tensor.dtype).astype("float64")
            return (found - tensor.zero_point) * tensor.scale if tensor.scale else found

        place += size
        if not tensor.scale and not np.issubdtype(tensor.dtype, np.floating):
            equal += [
                float((values(expected, n) == values(actual, n)).mean()) for n in range(count)
            ]
            continue
        has_values = True
        common = sum(values(expected, n) for n in range(count)) / count
        common = common if count > 1 else common.mean()
        for n in range(count):
            should, does = values(expected, n), values(actual, n)
            if len(tensor.shape) == 2 and tensor.shape[-1] > 1:
                has_classes = True
                same_class[n] &= should.argmax() == does.argmax()
            not_finite += int((~np.isfinite(does) & np.isfinite(should)).sum())
            usable = np.isfinite(should) & np.isfinite(does)
            signals[n] += ((should - common)[usable] ** 2).sum()
            powers[n] += (should[usable] ** 2).sum()
            errors[n] += ((should - does)[usable] ** 2).sum()
    return Agreement(
        images=count,
        decibels=_decibels(signals.sum(), errors.sum()) if has_values else None,
        worst_decibels=_decibels(signals.mean(), errors.max()) if has_values else None,
        variation_decibels=_decibels(signals.sum(), powers.sum()) if has_values else None,
        agreeing=int(same_class.sum()) if has_classes else None,
        equal=sum(equal) / len(equal) if equal else None,
        not_finite=not_finite,
    )


def _decibels(signal, noise):
    if noise == 0:
        return EXACT_DB
    return max(-EXACT_DB, min(EXACT_DB, 10 * math.log10(max(float(signal), 1e-300) / noise)))
