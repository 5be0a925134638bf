"""What a recipe is: literal numbers, overridable by name and type."""

import dataclasses
import difflib
import os
import runpy
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_hybrid.training.recipe.checks import check_recipe
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.fields import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    POSITIVE,
    RISING,
    RISING_SHARES,
    SHARE,
    SHARE_ABOVE_0,
    SHARE_BELOW_1,
    Limit,
    between,
    number,
    one_of,
    optional,
)

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

Numbers = typing.TypeVar("Numbers", bound="DataclassInstance")
TEACHER_LOSSES = ("hard", "soft")
INTERPOLATIONS = ("bilinear", "bicubic", "random")
CROP, STRETCH = "crop", "stretch"


@dataclass(frozen=True)
class Recipe(CommonRecipe):
    """All numbers of one training run of a classifier.

    Each field carries its help and its range: `describe_fields(Recipe)` lists them, checks and
    `--help` follow.
    """

    label_smoothing: float = number(
        "share of a label's mass spread over all classes.",
        SHARE_BELOW_1,
        0.0,
    )
    dropout_rate: float | None = number(
        "before the classifier, None for the model's own.",
        optional(SHARE_BELOW_1),
        None,
    )
    crop_area: tuple[float, float] = number(
        "least and greatest share of the image that a random crop covers.",
        RISING_SHARES,
        (0.08, 1.0),
    )
    crop_aspect: tuple[float, float] = number(
        "least and greatest width over height of a random crop.",
        RISING,
        (3 / 4, 4 / 3),
    )
    randaugment_magnitude: float | None = number(
        "m of RandAugment, from 0 to 10; None for none.",
        optional(between(0, 10)),
        None,
    )
    randaugment_std: float = number(
        "of the normal noise on m.",
        NOT_NEGATIVE,
        0.5,
    )
    randaugment_increasing: bool = number(
        "whether every operation grows with m (timm's `inc1`); else some shrink, as in timm's "
        "plain list.",
        default=True,
    )
    randaugment_interpolation: str = number(
        "of RandAugment's rotations, shears and shifts; random draws one for each.",
        one_of(*INTERPOLATIONS),
        "bilinear",
    )
    color_jitter: float = number(
        "strength of the jitter of brightness, contrast and saturation; as in the published "
        "recipes, RandAugment takes its place where there is one.",
        SHARE_BELOW_1,
        0.0,
    )
    mixup: float = number(
        "alpha of mixup; 0 for none.",
        NOT_NEGATIVE,
        0.0,
    )
    cutmix: float = number(
        "alpha of CutMix; 0 for none.",
        NOT_NEGATIVE,
        0.0,
    )
    cutmix_probability: float = number(
        "of CutMix in place of mixup, where both are on.",
        SHARE,
        0.5,
    )
    mixing_group: int | None = number(
        "so many images of a batch share a draw of mixup and CutMix, as those of one device do in "
        "the authors' programs; None for all of a training step.",
        optional(AT_LEAST_1),
        None,
    )
    erase_probability: float = number(
        "of a box of noise.",
        SHARE,
        0.0,
    )
    finish_on: str | None = number(
        "where training images are normalised, erased and mixed: host, in the input pipeline; or "
        "device, in the training step, to which they travel as 8-bit pixels; None for the device "
        "where it is a GPU or a TPU.",
        one_of(None, "host", "device"),
        None,
    )
    crop_fraction: float | None = number(
        "in evaluation, side of the central crop over the side of the resized image; None for "
        "the family's.",
        optional(SHARE_ABOVE_0),
        None,
    )
    to_square: str = number(
        "how an image that is no square becomes one in evaluation: crop takes its central square; "
        "stretch takes all of it, as MediaPipe's ImageClassifier does, and the aspects of random "
        "crops are then relative to the image's.",
        one_of(CROP, STRETCH),
        CROP,
    )
    interpolation: str | None = number(
        "of resizes, bilinear or bicubic, in training also random, one for each image; None for "
        "the family's, which evaluation has with random, too.",
        one_of(None, *INTERPOLATIONS),
        None,
    )
    scales: tuple[int, ...] = number(
        "sizes of the multi-scale sampler, in pixels: each batch has one of them, and a "
        "number of images that keeps batch times area at that of `resolution`; () for none.",
        Limit(lambda scales: all(scale >= 64 for scale in scales), "sizes of at least 64"),
        (),
    )
    new_classifier: bool = number(
        "whether the classifier is new even where the number of classes fits.",
        default=False,
    )
    teacher: str | None = number(
        "a classifier to distil: a name of `keras_hybrid.list_models()` or "
        '`keras.applications`, published weights such as "IFormerL/imagenet_distill", a '
        "`.keras` file or a run's folder; None for none.",
        default=None,
    )
    teacher_loss: str = number(
        '"hard" for cross-entropy with the teacher\'s class, in which a network with two heads '
        'has a head for it, "soft" for the divergence of both distributions.',
        one_of(*TEACHER_LOSSES),
        "hard",
    )
    teacher_share: float = number(
        "of the teacher's part in the loss, from 0 to 1.",
        SHARE,
        0.5,
    )
    teacher_temperature: float = number(
        "that divides the logits of teacher and network in the soft loss.",
        POSITIVE,
        1.0,
    )
    teacher_resolution: int | None = number(
        "of the teacher's images; None for the teacher's own, or else the network's.",
        optional(AT_LEAST_1),
        None,
    )
    teacher_preprocessing: str | None = number(
        'a family of this package, or a module of `keras.applications` such as "convnext", or '
        '"none" for RGB from 0 to 255; None for the teacher\'s own.',
        default=None,
    )
    teacher_cache: str | None = number(
        "folder for the teacher's logits of the evaluation crop of every image, which then "
        "take the place of those of the augmented images; None to ask the teacher at each "
        "step.",
        default=None,
    )

    def __post_init__(self):
        super().__post_init__()
        check_recipe(self)

    @property
    def any_size(self) -> bool:
        """Whether the network that is trained must take images of any size."""
        return bool(self.scales)

    @property
    def scale_batch_sizes(self) -> dict[int, int]:
        """Images of a batch of each of the `scales`."""
        pixels = self.batch_size * self.resolution**2
        return {scale: max(1, round(pixels / scale**2)) for scale in self.scales}


def override(recipe: Numbers, assignments: Sequence[str]) -> Numbers:
    """The recipe with fields replaced, as the command line gives them.

    Args:
        recipe: a `Recipe` or another dataclass, where the other fields come from.
        assignments: "name=value" each; a value is read as its field's type, so "none", "true" and
            "0.1,1.0" work where the field takes None, a truth value or a pair, and
            "model_options=num_tokens=3,former=true" where it takes a dictionary.

    Raises:
        ValueError: for an unknown field, with the nearest known one, or a value of another type.
    """
    hints = typing.get_type_hints(type(recipe))
    changes = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().lstrip("-")
        if not equals:
            raise ValueError(f"An override reads `name=value`. Received: {assignment!r}")
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"A recipe has no `{name}`.{hint} Received: {assignment!r}")
        try:
            changes[name] = _parse(text.strip(), hints[name])
        except ValueError as error:
            raise ValueError(
                f"`{name}` takes {_type_name(hints[name])}. Received: {assignment!r}"
            ) from error
    return dataclasses.replace(recipe, **changes)


def _parse(text, kind):
    if isinstance(kind, types.UnionType):
        options = typing.get_args(kind)
        if type(None) in options and text.lower() == "none":
            return None
        (kind,) = (option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        parts = [part for part in text.strip("()[]").split(",") if part.strip()]
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(parts)
        if len(parts) != len(kinds):
            raise ValueError(text)
        return tuple(_parse(part.strip(), kind) for part, kind in zip(parts, kinds, strict=True))
    if typing.get_origin(kind) is dict:
        pairs = [part.partition("=") for part in text.strip("{}").split(",") if part.strip()]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise ValueError(text)
        return {name.strip(): _parse_plain(value.strip()) for name, _, value in pairs}
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return kind(text)


def _parse_plain(text):
    """A value of unknown type: none, a truth value, a number, or else the text itself."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _type_name(kind):
    return getattr(kind, "__name__", None) if isinstance(kind, type) else str(kind)


def load_recipe(
    path: str | os.PathLike,
    variant: str | None = None,
    kind: type[Numbers] = Recipe,  # type: ignore[assignment]  # a default of a type variable
) -> Numbers:
    """Runs a recipe file and returns its `get_recipe(variant)`.

    Args:
        path: a Python file with a function `get_recipe`.
        variant: the paper's name of the model's size; None for the file's default.
        kind: the dataclass that the recipe is to be of.

    Raises:
        ValueError: for a missing file, one that does not run, has no `get_recipe` or a recipe of
            another kind, or an unknown variant.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"A recipe is a Python file. Received: path={str(path)!r}")
    try:
        get_recipe = runpy.run_path(str(path)).get("get_recipe")
    except Exception as error:  # whatever the user's file raises
        raise ValueError(
            "A recipe file must run and define `get_recipe`. "
            f"Received: path={str(path)!r}, which raises {type(error).__name__}: {error}"
        ) from error
    if get_recipe is None:
        raise ValueError(f"A recipe file has a `get_recipe`. Received: path={str(path)!r}")
    recipe = get_recipe() if variant is None else get_recipe(variant)
    if not isinstance(recipe, kind):
        raise ValueError(
            f"`get_recipe` must return a `{kind.__name__}` here. "
            f"Received: path={str(path)!r}, which gives a `{type(recipe).__name__}`"
        )
    return recipe
