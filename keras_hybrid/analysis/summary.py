"""Where a network's parameters and multiply-adds are: by part of the paper, by stage, by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_hybrid.analysis.cost import layer_costs
from keras_hybrid.layer_names import (
    FINAL,
    HEAD,
    PARTS,
    STEM,
    TOKENS,
    part_of_layer,
    stage_of_layer,
)

OTHER = "other"


@dataclass(frozen=True)
class GroupCost:
    """The cost of some layers together.

    Attributes:
        name: of the part or the stage.
        parameters: trainable ones.
        multiply_adds: for one image.
    """

    name: str
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class CostSummary:
    """What `summarize_cost` counts; `print` shows the tables.

    Attributes:
        model: its name.
        input_size: height and width of the image in pixels.
        layers: a row for each layer: "layer", "kind", "part", "stage", "parameters" and
            "multiply_adds". `pandas.DataFrame(summary.layers)` takes them as they are.
        by_part: a `GroupCost` for each part that the network has, in the order of
            `keras_hybrid.layer_names.PARTS`, then "other".
        by_stage: a `GroupCost` for each stage, in order.
    """

    model: str
    input_size: tuple[int, int]
    layers: tuple[dict, ...]
    by_part: tuple[GroupCost, ...]
    by_stage: tuple[GroupCost, ...]

    @property
    def parameters(self) -> int:
        """Of the whole network, trainable ones."""
        return sum(row["parameters"] for row in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of the whole network's convolutions and matrix products, for one image."""
        return sum(row["multiply_adds"] for row in self.layers)

    def records(self, by: str = "part") -> list[dict]:
        """Rows for a DataFrame, with shares of the whole.

        Args:
            by: "part", "stage" or "layer".

        Returns: dictionaries with the group's name, "parameters", "parameters_share",
            "multiply_adds" and "multiply_adds_share"; layers have "kind", "part" and "stage", too.

        Raises:
            ValueError: for another grouping.
        """
        groups = {"part": self.by_part, "stage": self.by_stage}
        if by == "layer":
            rows = [dict(row) for row in self.layers]
        elif by in groups:
            rows = [
                {by: cost.name, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
                for cost in groups[by]
            ]
        else:
            raise ValueError(f'`by` must be "part", "stage" or "layer". Received: by={by!r}')
        for row in rows:
            row["parameters_share"] = row["parameters"] / max(self.parameters, 1)
            row["multiply_adds_share"] = row["multiply_adds"] / max(self.multiply_adds, 1)
        return rows

    def table(self, by: str = "part") -> str:
        """One grouping as text, the whole in its last line."""
        rows = self.records(by)
        width = max(len(str(row[by])) for row in [*rows, {by: "whole"}])
        lines = [
            f"{by:<{width}}  {'parameters':>12} {'share':>7}  {'multiply-adds':>15} {'share':>7}"
        ]
        whole = {
            by: "whole",
            "parameters": self.parameters,
            "parameters_share": 1,
            "multiply_adds": self.multiply_adds,
            "multiply_adds_share": 1,
        }
        for row in [*rows, whole]:
            lines.append(
                f"{row[by]:<{width}}  {row['parameters']:>12,} {row['parameters_share']:>7.1%}  "
                f"{row['multiply_adds']:>15,} {row['multiply_adds_share']:>7.1%}"
            )
        return "\n".join(lines)

    def __str__(self):
        height, width = self.input_size
        title = f"{self.model}, one image of {height} x {width} pixels"
        return f"{title}\n\n{self.table('part')}\n\n{self.table('stage')}"

    def plot(self, path=None):
        """Draws the shares of parameters and multiply-adds, by part and by stage.

        Args:
            path: of a picture to write; None to write none.

        Returns: the Matplotlib figure.
        """
        from keras_hybrid.analysis.cost_picture import plot_cost

        return plot_cost(self, path)


def summarize_cost(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> CostSummary:
    """Counts a network's trainable parameters and multiply-adds by part and by stage.

    Parts and stages are found by the layers' names, in a model just built, loaded from a file or
    nested in another; what has another name is "other". The parts sum to the whole. Element-wise
    work is not counted, as by `count_multiply_adds`.

    Args:
        model: a functional model.
        input_size: height and width of the image in pixels, one number for both; None for the
            model's own input size.

    Returns: a `CostSummary`.

    Raises:
        ValueError: when the size is neither given nor fixed by the model, or for a model that is
            not functional.
    """
    rows: tuple[dict[str, Any], ...] = tuple(
        {
            "layer": cost.name,
            "kind": cost.kind,
            "part": part_of_layer(cost.name) or OTHER,
            "stage": stage_of_layer(cost.name) or OTHER,
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
        }
        for cost in layer_costs(model, input_size)
    )
    if input_size is None:
        size = tuple(model.input_shape[1:3])
    else:
        size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    first = [TOKENS, STEM]
    last = [FINAL, HEAD, OTHER]
    stages = sorted({row["stage"] for row in rows} - {*first, *last})
    return CostSummary(
        model=model.name,
        input_size=size,
        layers=rows,
        by_part=_grouped(rows, "part", [*PARTS, OTHER]),
        by_stage=_grouped(rows, "stage", [*first, *stages, *last]),
    )


def _grouped(rows: Sequence[dict], by: str, order: Sequence[str]) -> tuple[GroupCost, ...]:
    """The sums of the groups that cost something, in the given order."""
    groups = []
    for name in order:
        own = [row for row in rows if row[by] == name]
        cost = GroupCost(
            name,
            sum(row["parameters"] for row in own),
            sum(row["multiply_adds"] for row in own),
        )
        if cost.parameters or cost.multiply_adds:
            groups.append(cost)
    return tuple(groups)
