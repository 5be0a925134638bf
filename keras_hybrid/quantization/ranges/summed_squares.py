"""Ranges of squares whose sum is what counts: variances of layer norms, squared lengths."""

import numpy as np

# Rows and values that are kept for the choice, of all that calibration sees.
MAXIMUM_ROWS = 4096
MAXIMUM_VALUES = 1 << 18
CLIPPINGS = (1.0, 0.5, 0.25, 0.125)
STEPS = 255
# Relative error of the roots, squared and averaged, below which there is nothing to mend.
NEGLIGIBLE = 1e-4


class SummedSquares:
    """Rows of squares that calibration saw, drawn by chance, for a range that serves their sums.

    A few rows with large squares stretch the grid so far that most squares of all other rows are
    rounded to 0, and their variances with them: with the range of all values 68% of the squares in
    a MobileViT were. A range that clips the few is nearer the reciprocal roots of most.
    """

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes
        self._rows = []
        self._share = 1.0  # of the rows to come that is kept
        self._random = np.random.default_rng(0)

    def add(self, values: np.ndarray):
        """Takes in values, any shape."""
        axes = sorted(axis % values.ndim for axis in self.axes)
        kept = [axis for axis in range(values.ndim) if axis not in axes]
        size = int(np.prod([values.shape[axis] for axis in axes]))
        rows = values.transpose(kept + axes).reshape(-1, size)
        # By chance: every n-th row would be a column of the map.
        self._rows.append(rows[self._random.random(len(rows)) < self._share])
        while sum(map(len, self._rows)) > max(1, min(MAXIMUM_ROWS, MAXIMUM_VALUES // size)):
            rows = self._random.permutation(np.concatenate(self._rows))
            self._rows = [rows[: len(rows) // 2]]
            self._share /= 2

    def highest(self, high: float) -> float:
        """The upper end of the range, `high` or a half, a quarter, an eighth of it.

        Returns: `high` where its rounded means' reciprocal roots are within a percent of the exact
        ones, in quadratic mean; else the one that they are nearest with.
        """
        rows = np.concatenate(self._rows).astype("float64")
        means = rows.mean(axis=1)
        if not means.max() > 0:
            return high
        least = means.max() / STEPS / 2  # what the grid of the means tells from 0
        errors = []
        for clipping in CLIPPINGS:
            step = high * clipping / STEPS
            rounded = np.minimum(np.round(rows / step), STEPS).mean(axis=1) * step
            ratios = np.sqrt((means + least) / (rounded + least))
            errors.append(np.mean((ratios - 1) ** 2))
        return high if errors[0] < NEGLIGIBLE else high * CLIPPINGS[int(np.argmin(errors))]
