"""What this room's pictures share: colors told apart with any kind of color vision, and files."""

from pathlib import Path

# Okabe and Ito's colors; bars that may touch also differ in lightness.
SERIES_COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
DOTS_PER_INCH = 200  # twice the common 100


def new_figure(size: tuple[float, float]):
    """A Matplotlib figure outside its global list, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", dpi=100)


def save(figure, path):
    """Writes the figure as a PNG at 2x, where a path is given; returns the figure."""
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DOTS_PER_INCH, facecolor="white")
    return figure
