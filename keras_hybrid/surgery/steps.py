"""One call of a layer as passes see it: what it takes and gives, its configuration and weights."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_hybrid.surgery.float32 import as_float32

# Keras' layers without a `get_config` of their own, and their arguments.
UNWRITTEN = {keras.layers.ELU: ("alpha",)}


class Value:
    """A tensor of the edited model: what one step returns and others take.

    Attributes:
        shape: with the batch's length, None where it is not known.
        dtype: its name.
    """

    def __init__(self, shape, dtype="float32"):
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    def is_float(self) -> bool:
        """Whether its type is one of floating point."""
        return keras.backend.is_float_dtype(self.dtype)


@dataclass(eq=False)
class Step:
    """One call of a layer or of an operation of `keras.ops`.

    Attributes:
        operation: the layer or operation of the model it came from; never changed.
        args: positional arguments, Keras tensors replaced by `Value`s.
        kwargs: keyword arguments, likewise.
        outputs: what it returns, flattened.
        layer_class: of the layer that it becomes.
        config: of that layer, once edited; None as long as it is the original's.
        weights: of that layer by name, once edited.
        partial: whether weights that `weights` lacks stay as the layer initialises them.
        folded_norm: the `FoldedNorm` that became part of it; None without.
        origin: names of the layers of the user's model that it was made of, whatever passes have
            called it since; models that they are in count as layers. A step that a pass makes has
            the origin of the step in whose place it comes, or that it comes after, if it is not
            given one.
        call: which of its layer's calls it is, from 0, likewise.
        model: the `EditableModel` that has it, to be told of other inputs; None outside of one.
        call_name: its name where a layer of the user's model has another, since names of steps are
            unique; None where it has the layer's.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list[Value]
    layer_class: type = None
    config: dict | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    partial: bool = False
    folded_norm: Any = None
    origin: tuple[str, ...] = ()
    call: int = 0
    call_name: str | None = None

    def __post_init__(self):
        self._original = None  # the operation's configuration, once it has been asked for
        self.model = None
        self._find_inputs()

    def _find_inputs(self):
        """Sets `inputs`, the values it takes, flattened."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        if self.model is not None:
            self.model.unlink_inputs(self)
        self.inputs: list[Value] = [x for x in flat if isinstance(x, Value)]
        if self.model is not None:
            self.model.link_inputs(self)

    def take(self, *args):
        """Changes the positional arguments."""
        self.args = args
        self._find_inputs()

    def replace_input(self, old: Value, new: Value):
        """Takes `new` wherever it took `old`."""

        def swap(x):
            return new if x is old else x

        self.args = keras.tree.map_structure(swap, self.args)
        self.kwargs = keras.tree.map_structure(swap, self.kwargs)
        self._find_inputs()

    @property
    def output(self) -> Value:
        """The only output."""
        (output,) = self.outputs
        return output

    @property
    def name(self) -> str:
        return self.config["name"] if self.config else self.call_name or self.operation.name

    def is_a(self, *classes) -> bool:
        """Whether the step's layer is of one of the classes, or of a class derived from them."""
        return issubclass(self.layer_class, classes)

    def edit(self) -> "Step":
        """Makes configuration and weights the step's own, to be changed; returns the step."""
        if self.config is None:
            name = self.name
            self.config = {**config_of(self.operation), "name": name}
            self.weights = weights_of(self.operation)
            if getattr(self.operation, "lora_enabled", False):
                self.config["lora_rank"] = None
        return self

    def setting(self, key):
        """An entry of the layer's configuration."""
        if self.config is not None:
            return self.config.get(key)
        if self._original is None:
            try:
                self._original = config_of(self.operation)
            except Exception:  # functions that Keras cannot write down, in layers that stay
                self._original = dict(vars(self.operation))
        return self._original.get(key)

    def weight(self, name) -> np.ndarray | None:
        """A weight by its name, or None where the layer has none of that name."""
        if self.config is not None:
            return self.weights.get(name)
        return weights_of(self.operation).get(name)


def config_of(layer: keras.layers.Layer) -> dict:
    """A layer's configuration, also where Keras' own lacks what the layer computes with.

    Of layers without a `get_config` of their own Keras notes the constructor's arguments: not what
    has been changed since, and none at all where one is a NumPy number.
    """
    if type(layer) not in UNWRITTEN:
        return layer.get_config()
    return {
        "name": layer.name,
        "trainable": layer.trainable,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
        **{name: np.asarray(getattr(layer, name)).tolist() for name in UNWRITTEN[type(layer)]},
    }


def weights_of(layer: keras.layers.Layer) -> dict[str, np.ndarray]:
    """A layer's weights by name, in float32 where they are in half precision, LoRA's merged."""
    weights = {
        weight.path.rsplit("/", 1)[-1]: as_float32(keras.ops.convert_to_numpy(weight))
        for weight in layer.weights
    }
    if not getattr(layer, "lora_enabled", False):
        return weights
    weights = {name: value for name, value in weights.items() if not name.startswith("lora_")}
    for name in ("kernel", "embeddings"):
        if name in weights:
            weights[name] = as_float32(keras.ops.convert_to_numpy(getattr(layer, name)))
    return weights


def new_step(layer: keras.layers.Layer, args, shape, weights=None, origin=()) -> Step:
    """A step of a new layer.

    Args:
        layer: not called yet.
        args: its positional arguments, with `Value`s for tensors.
        shape: of its only output.
        weights: of the layer, by name.
        origin: of the step; empty for that of its neighbour.
    """
    return Step(
        operation=layer,
        args=tuple(args),
        kwargs={},
        outputs=[Value(shape)],
        layer_class=type(layer),
        config=config_of(layer),
        weights=dict(weights or {}),
        origin=tuple(origin),
    )
