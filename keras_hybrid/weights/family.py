"""What a family of networks is to the rest of the package: one object that holds all of it.

General code asks the object and never for a family's name. `families/` holds one file for each
family, which ends in its `FAMILY`; a user's own family is registered with `families.register`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import keras

from keras_hybrid.weights.checkpoints.key_maps import KeyMap
from keras_hybrid.weights.pretrained.homes import Home

IMAGENET = "ImageNet-1k"
VOC = "PASCAL VOC 2012"
ADE20K = "ADE20K"
COCO = "COCO 2017"
TOP1 = "top-1"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs.

    Attributes:
        resolution: height and width of the input, in pixels.
        crop_fraction: side of the central crop over the side that the image is resized to.
        interpolation: name of that resize's method, "bilinear" or "bicubic".
        mean: what is subtracted from values in [0, 1], per channel in RGB order.
        std: what the difference is divided by, per channel in RGB order.
        channel_order: order of the network's input channels, "RGB" or "BGR".
    """

    resolution: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "RGB"


@dataclass(frozen=True)
class Preset:
    """One published checkpoint.

    Attributes:
        model: name of the builder.
        tag: what `weights=` calls it.
        dataset: name of the data set that it was trained on.
        preprocessing: what it was measured with.
        score: what was published of it under that preprocessing, in percent.
        parameters: number of parameters of the published network, with its head or heads.
        license: name of the license, as its home states it.
        homes: places where the file is, the preferred one first (safetensors before pickles).
        distillation: whether the file has a second head.
        metric: what `score` is: "top-1" accuracy, "mIoU" over the data set's classes.
    """

    model: str
    tag: str
    dataset: str
    preprocessing: Preprocessing
    score: float
    parameters: int
    license: str
    homes: tuple[Home, ...]
    distillation: bool = False
    metric: str = TOP1

    @property
    def name(self) -> str:
        """Model and tag, such as "MobileViTS/imagenet"."""
        return f"{self.model}/{self.tag}"


@dataclass(frozen=True)
class TwoHeads:
    """Two heads whose logits a network averages: a batch norm and a dense layer each.

    A checkpoint with both loads into a network that has the first alone, with the two merged.

    Attributes:
        first: prefix of the first head's layers, which every network of the family has.
        second: prefix of the distillation head's layers.
    """

    first: str
    second: str

    def layers(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(batch norm, dense layer) of the first head and of the second."""
        first, second = ((f"{head}_norm", f"{head}_fc") for head in (self.first, self.second))
        return first, second


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of networks: what its builders, names and checkpoints look like.

    Attributes:
        name: identifier of the family, such as "mobile_former".
        builders: names of the builders, smallest network first.
        own_layers: names of layers that only this family's networks have; one of them is in every
            network of the family, ablated or not.
        key_maps: the namings of its published checkpoints, the authors' own first.
        head_layers: names of the layers with weights that a network without its head lacks.
        classifiers: those of them whose shape follows from the number of classes.
        two_heads: the two heads that distillation trains; None for a family with one.
        preprocessing: what its networks expect where no preset says otherwise.
        presets: its published checkpoints.
        dense_presets: those of detection and segmentation systems on its networks.
        aliases: (builder, tag) -> the tag that is meant.
        module: name of the module that has the builders; None for the family's of the models room.
    """

    name: str
    builders: tuple[str, ...]
    own_layers: tuple[str, ...]
    key_maps: tuple[KeyMap, ...]
    head_layers: tuple[str, ...]
    classifiers: tuple[str, ...]
    two_heads: TwoHeads | None
    preprocessing: Preprocessing
    presets: tuple[Preset, ...]
    dense_presets: tuple[Preset, ...] = ()
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict, hash=False)
    module: str | None = None

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the builders of published detection and segmentation systems."""
        return tuple(dict.fromkeys(preset.model for preset in self.dense_presets))

    def __post_init__(self):
        for attribute in ("name", "builders", "own_layers", "head_layers", "classifiers"):
            if not getattr(self, attribute):
                raise ValueError(
                    f"A family needs `{attribute}`. Received: family {self.name!r} with "
                    f"{attribute}={getattr(self, attribute)!r}"
                )
        for attribute, found, known in (
            ("classifiers", self.classifiers, self.head_layers),
            ("presets", [preset.model for preset in self.presets], self.builders),
            ("key_maps", [key_map.family for key_map in self.key_maps], (self.name,)),
        ):
            if strangers := sorted(set(found) - set(known)):
                raise ValueError(
                    f"`{attribute}` of the family {self.name!r} must be of {tuple(known)}. "
                    f"Received: {strangers}"
                )


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model, those of models inside it in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)
        else:
            yield layer
