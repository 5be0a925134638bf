"""The published checkpoints, what each expects of its images, and images turned into that.

Preprocessing, and the channel order above all, is what the files were trained and measured with:

- MobileViT, `apple` files: **BGR**. The authors' first release (apple/ml-cvnets, 2021, in
  data/datasets/dataset_base.py) reads images with `cv2.imread` and says that they stay in BGR; the
  Hugging Face conversion keeps the weights and has `do_flip_channel_order: true`, size 288, crop
  256, bilinear, no mean or std in its preprocessor_config.json.
- MobileViT, `timm` files: **RGB**. timm reads with PIL, `convert("RGB")` (timm/data/dataset.py),
  has no flip among its transforms, and measures what Apple publishes: 68.94 / 74.62 / 78.30
  (results/results-imagenet.csv) for 69.0 / 74.8 / 78.4. The stem of these files was turned.
- iFormer, authors' and `timm` files: **RGB**. Both read with PIL; the weights are the same
  (timm/models/iformer.py renames keys and no more), ImageNet mean and std, crop 0.875, bicubic.
- Mobile-Former: **RGB**. AAboys/MobileFormer trains and evaluates with timm 0.3.4's loader: PIL,
  ImageNet mean and std, crop 0.875, bilinear.
"""

from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.weights.family import family_of
from keras_hybrid.weights.pretrained.homes import GitHubRelease, GoogleDrive, Home, HuggingFace


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs.

    Attributes:
        resolution: height and width of the input, in pixels.
        crop_fraction: side of the central crop over the side that the image is resized to.
        interpolation: of that resize, "bilinear" or "bicubic".
        mean: subtracted from values in [0, 1], per channel in RGB order.
        std: what the difference is divided by.
        channel_order: "RGB" or "BGR", the order of the network's input channels.
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
        dataset: what it was trained on.
        preprocessing: what it was measured with.
        top1: published top-1 accuracy in percent under that preprocessing.
        parameters: of the published network, with its head or heads.
        licence: as its home states it.
        homes: where the file is, the preferred place first (safetensors before pickles).
        distillation: whether the file has a second head.
    """

    model: str
    tag: str
    dataset: str
    preprocessing: Preprocessing
    top1: float
    parameters: int
    licence: str
    homes: tuple[Home, ...]
    distillation: bool = False

    @property
    def name(self) -> str:
        """Model and tag, such as "MobileViTS/imagenet"."""
        return f"{self.model}/{self.tag}"


DATASET = "ImageNet-1k"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_ZEROS = (0.0, 0.0, 0.0)
_ONES = (1.0, 1.0, 1.0)

_MOBILEVIT_TIMM = Preprocessing(256, 0.9, "bicubic", _ZEROS, _ONES)
_MOBILEVIT_APPLE = Preprocessing(256, 256 / 288, "bilinear", _ZEROS, _ONES, "BGR")
FAMILY_PREPROCESSING = {
    "mobile_former": Preprocessing(224, 0.875, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD),
    "mobilevit": _MOBILEVIT_TIMM,
    "iformer": Preprocessing(224, 0.875, "bicubic", _IMAGENET_MEAN, _IMAGENET_STD),
}

_APPLE_LICENCE = "Apple sample code licence (github.com/apple/ml-cvnets/blob/main/LICENSE)"
_MOBILE_FORMER_LICENCE = "none stated (github.com/AAboys/MobileFormer)"
_IFORMER_LICENCE = "MIT"


def _mobile_former(variant, top1, parameters, drive_id):
    home = GoogleDrive(drive_id, f"mobile-former-{variant.lower()}.pth.tar")
    return Preset(
        f"MobileFormer{variant}",
        "imagenet",
        DATASET,
        FAMILY_PREPROCESSING["mobile_former"],
        top1,
        parameters,
        _MOBILE_FORMER_LICENCE,
        (home,),
    )


def _hugging_face(repository):
    files = ("model.safetensors", "pytorch_model.bin")
    return tuple(HuggingFace(repository, file) for file in files)


def _mobilevit(variant, tag, preprocessing, top1, parameters, repository):
    return Preset(
        f"MobileViT{variant}",
        tag,
        DATASET,
        preprocessing,
        top1,
        parameters,
        _APPLE_LICENCE,
        _hugging_face(repository),
    )


def _iformer(variant, tag, top1, parameters, distillation=False):
    """The timm file, and for a tag that ends in "authors" the authors' own."""
    if tag.endswith("authors"):
        file = f"iFormer_{variant.lower()}{'_distill' if distillation else ''}.pth"
        homes = (
            GitHubRelease("ChuanyangZheng/iFormer", "v0.9", file),
            HuggingFace("BillionZheng/iFormer", file),
        )
    else:
        suffix = "_distilled" if distillation else ""
        homes = _hugging_face(f"timm/iformer_{variant.lower()}{suffix}.in1k")
    return Preset(
        f"IFormer{variant}",
        tag,
        DATASET,
        FAMILY_PREPROCESSING["iformer"],
        top1,
        parameters,
        _IFORMER_LICENCE,
        homes,
        distillation,
    )


PRESETS: tuple[Preset, ...] = (
    _mobile_former("26M", 64.0, 3_232_788, "15uWYzx2VWWUjacZQHB56vOHzKxQDlp5O"),
    _mobile_former("52M", 68.7, 3_469_092, "1ekq_FPl57gjIlYX16Ll0nBuEyB0pjgGt"),
    _mobile_former("96M", 72.8, 4_585_252, "1kMbRceswujtliCHKr-nxMFsrkvBrEfrW"),
    _mobile_former("151M", 75.2, 7_595_828, "1w4QO-zhJ8QI1zGu7iOZ7lXxYJ5G1VXdF"),
    _mobile_former("214M", 76.7, 9_425_920, "13MOjdIMMBJgqyq_ld-grRhBBHOFU5Ggd"),
    _mobile_former("294M", 77.9, 11_422_648, "1JBSM7NJ60fN9TgT5sMnbhmbZwrzcBd0r"),
    _mobile_former("508M", 79.3, 13_976_976, "1bqLIcpbCaxK-Eb4wcxk0iJpFJ1nXfGuF"),
    *(
        _mobilevit(variant, tag, preprocessing, top1, parameters, repository)
        for variant, parameters, short, long, timm_top1, apple_top1 in (
            ("XXS", 1_272_024, "xxs", "xx-small", 68.9, 69.0),
            ("XS", 2_317_848, "xs", "x-small", 74.6, 74.8),
            ("S", 5_578_632, "s", "small", 78.3, 78.4),
        )
        for tag, preprocessing, top1, repository in (
            ("imagenet", _MOBILEVIT_TIMM, timm_top1, f"timm/mobilevit_{short}.cvnets_in1k"),
            ("imagenet_apple", _MOBILEVIT_APPLE, apple_top1, f"apple/mobilevit-{long}"),
        )
    ),
    *(
        _iformer(variant, tag, top1, parameters, distillation)
        for variant, plain, top1, parameters, distillation in (
            ("T", "imagenet", 74.1, 2_886_456, False),
            ("S", "imagenet", 78.8, 6_563_368, False),
            ("M", "imagenet", 80.4, 8_907_424, False),
            ("M", "imagenet_distill", 81.1, 9_293_192, True),
            ("L", "imagenet", 81.9, 14_779_808, False),
            ("L", "imagenet_distill", 82.7, 15_165_576, True),
            ("L2", "imagenet_distill", 83.9, 25_033_008, True),
            ("H", "imagenet", 84.8, 99_596_632, False),
        )
        for tag in (plain, f"{plain}_authors")
    ),
)
# Only distilled weights of iFormer-L2 are published: "imagenet" means them.
_ALIASES = {
    ("IFormerL2", "imagenet"): "imagenet_distill",
    ("IFormerL2", "imagenet_authors"): "imagenet_distill_authors",
}


def list_weights(model: str | None = None) -> list[Preset]:
    """The published checkpoints that `weights=` knows by name.

    Args:
        model: name of a builder, for its checkpoints only.

    Raises:
        ValueError: for a builder without any.
    """
    found = [preset for preset in PRESETS if model in (None, preset.model)]
    if not found:
        raise ValueError(f"No published weights are known for it. Received: model={model!r}")
    return found


def find_preset(model: str, tag: str) -> Preset:
    """The preset of a builder's name and a tag.

    Raises:
        ValueError: for a tag that the builder does not have; the message lists those it has.
    """
    tag = _ALIASES.get((model, tag), tag)
    for preset in list_weights(model):
        if preset.tag == tag:
            return preset
    tags = [preset.tag for preset in list_weights(model)]
    raise ValueError(f"{model} has the published weights {tags}. Received: weights={tag!r}")


def is_tag(weights) -> bool:
    """Whether `weights` names published weights and is no path."""
    tags = {preset.tag for preset in PRESETS} | {tag for _, tag in _ALIASES}
    return isinstance(weights, str) and weights in tags


def preprocessing_of(model: keras.Model | str | Preset | Preprocessing) -> Preprocessing:
    """The preprocessing of a model, a preset, or a name of one of them or of a family.

    A model that was built with published weights follows their preset. A model read back from a
    file does not know it any more and gets its family's, which is RGB: name the preset where it
    was "imagenet_apple".

    Args:
        model: a model, a preset or its name ("MobileViTS/imagenet_apple"), a builder's name
            ("MobileViTS"), a family's ("mobilevit"), or a `Preprocessing`.

    Raises:
        ValueError: for a name that is none of these.
    """
    if isinstance(model, Preprocessing):
        return model
    if isinstance(model, Preset):
        return model.preprocessing
    if isinstance(model, str):
        if "/" in model:
            return find_preset(*model.split("/", 1)).preprocessing
        plain = model.lower().replace("_", "").replace("-", "")
        for family, preprocessing in FAMILY_PREPROCESSING.items():
            if plain.startswith(family.replace("_", "")):
                return preprocessing
        raise ValueError(
            "`model` must be a model, a preset, a builder's name or one of "
            f"{tuple(FAMILY_PREPROCESSING)}. Received: model={model!r}"
        )
    preset = getattr(model, "preset", None)
    if isinstance(preset, Preset):
        return preset.preprocessing
    return FAMILY_PREPROCESSING[family_of(model)]


def preprocess_input(x, model: keras.Model | str | Preset | Preprocessing):
    """Turns RGB images of values 0 to 255 into the input of a model.

    Args:
        x: (..., H, W, 3), RGB, 0 to 255, an array or tensor of any number type.
        model: whose input: anything that `preprocessing_of` takes.

    Returns: float32 of x's shape, an array for an array and a tensor for a tensor.

    Raises:
        ValueError: for another number of channels, or an unknown model.
    """
    preprocessing = preprocessing_of(model)
    if x.shape[-1] != 3:
        raise ValueError(f"Images need 3 channels, last. Received: shape {tuple(x.shape)}")
    scale = (1 / (255 * np.asarray(preprocessing.std))).astype("float32")
    offset = (-np.asarray(preprocessing.mean) / np.asarray(preprocessing.std)).astype("float32")
    is_bgr = preprocessing.channel_order == "BGR"
    if isinstance(x, np.ndarray):
        x = x.astype("float32") * scale + offset
        return x[..., ::-1] if is_bgr else x
    if type(x).__module__.startswith("tensorflow."):  # in `tf.data`, whatever Keras' backend is
        import tensorflow as tf

        x = tf.cast(x, "float32") * scale + offset
        return x[..., ::-1] if is_bgr else x
    x = keras.ops.cast(x, "float32") * keras.ops.convert_to_tensor(scale)
    x = x + keras.ops.convert_to_tensor(offset)
    return keras.ops.flip(x, -1) if is_bgr else x
