"""Ranges whose grid fits 8-bit pixels: what has 256 levels is not to lie half way between two.

With pixels / 127.5 - 1, as most of `keras.applications` take them, 0 lies between two pixels. A
grid of the pixels' own step has 0 on it, so that each pixel lies half way between two of its
values: half a step off, and rounded one way here and another there.
"""

import numpy as np

LEVELS = 256
# Of a step: what float arithmetic leaves of a whole number, or of a half.
TOLERANCE = 0.01
SAMPLE = 1 << 16  # values looked at, of a batch
# With fewer levels than this, pixels are not photos' (digits of 17 levels): what lies between two
# of them is told apart, too, and what lies far above the greatest is not expected.
FEW_LEVELS = 64


class SeenLevels:
    """The different values of some batches, as long as they are few.

    Attributes:
        values: sorted; None once they are more than 256.
    """

    def __init__(self):
        self.values = np.empty(0, "float32")

    def add(self, batch: np.ndarray):
        """Looks at a batch, or a part of it where it is large."""
        if self.values is None:
            return
        flat, ends = batch.reshape(-1), [batch.min(), batch.max()]
        # Of values that are no levels, a few tell.
        for size in (4 * LEVELS, SAMPLE):
            found = np.union1d(self.values, ends)
            found = np.union1d(found, flat[:: max(1, flat.size // size)])
            # Values that arithmetic alone tells apart are one.
            near = np.diff(found) <= 1e-5 * np.max(np.abs(found))
            found = found[np.concatenate([[True], ~near])]
            if len(found) > LEVELS:
                self.values = None
                return
        self.values = found

    def range(self) -> tuple[float, float] | None:
        """A range whose 256 values the levels are on, or lie as clear of ties as can be.

        None where the levels are on no grid, or one of which 0 is neither a value nor half way
        between two: there, nothing is gained.
        """
        if self.values is None or len(self.values) < 3:
            return None
        levels = self.values.astype("float64")
        step = _common_step(levels)
        if step is None:
            return None
        low, high = min(levels[0], 0.0), max(levels[-1], 0.0)
        count = (high - low) / step
        if count > LEVELS - 0.5:
            return None
        phase = (-levels[0] / step) % 1.0
        if min(phase, 1 - phase) < TOLERANCE:
            finer = LEVELS // (count + 1) if count < FEW_LEVELS else 1
            return _on_grid(low, step / finer)
        if abs(phase - 0.5) < TOLERANCE:
            if count < FEW_LEVELS:
                return _on_grid(low - step / 2, step / 2)
            # The outermost level is on the grid; the others lie the nearer to ties, the nearer they
            # are to 0, and never on one.
            outermost = np.floor(max(-low, high) / step)
            return _on_grid(-LEVELS // 2, 1.0, step * (outermost + 0.5) / outermost)
        return None


def _on_grid(low, step, scale=1.0):
    """The range of 256 values of a step, 0 among them, that begins at `low` or just before."""
    before = np.ceil(-low / step - TOLERANCE)
    return -before * step * scale, (LEVELS - 1 - before) * step * scale


def _common_step(levels):
    """The step that all distances of the levels are multiples of; None where there is none."""
    distances = np.diff(levels)
    step = distances.min()
    counts = np.round((levels - levels[0]) / step)
    if counts[-1] > LEVELS:
        return None
    step = (levels[-1] - levels[0]) / counts[-1]
    off = np.abs((levels - levels[0]) / step - counts).max()
    return step if off < TOLERANCE * 5 else None
