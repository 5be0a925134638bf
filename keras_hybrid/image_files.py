"""Image files as pixels: the one decoder of training, evaluation, calibration and prediction.

A network must see a photo as people see it. Phones write portraits lying on their side with a note
that says so (EXIF), palettes and 16 bits come from scanners, transparency and WebP from the web:
decoders that pass over these give other pixels without a word.
"""

import io
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".avif", ".ppm", ".pgm"),
)
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_HINT = "`pip install pillow-heif` lets them be read, or export them as JPEG"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
# Folders that archives and systems leave behind.
_IGNORED_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
NAMES_SHOWN = 5  # so many a warning shows before it abbreviates

ORIENTATION_TAG = 0x0112  # EXIF's
ON_ITS_SIDE = (5, 6, 7, 8)  # values of it
# EXIF's tag, in both orders of bytes, with a value that turns the image; or XMP's.
_ORIENTATION = (
    r"\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]\x00"
    r"|\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08]"
    r"|\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00[\x02-\x08]"
    r"|tiff:Orientation"
)
_TURNED_JPEG = rf"\C*({_ORIENTATION})\C*"
_SPECIAL_PNG = rf"\C*(tRNS|eXIf|[Ee]xif|{_ORIENTATION})\C*"
_JPEG_HEADER = 1 << 16  # bytes, in which EXIF stands


class ImageFileError(ValueError):
    """A file that is no image, or one that cannot be read."""


def decode_image(source: str | os.PathLike | bytes) -> np.ndarray:
    """Reads an image as a viewer shows it.

    EXIF's orientation is applied, palettes and grey become RGB, CMYK is converted, 16 bits become
    their upper 8, transparency is laid on white, and of an animation the first frame is taken.

    Args:
        source: a file's path, or its content.

    Returns: uint8 (H, W, 3), RGB.

    Raises:
        ImageFileError: for a file that is missing, no image, or cut off; it names the file.
    """
    is_content = isinstance(source, (bytes, bytearray, memoryview))
    name = f"{len(source)} bytes" if is_content else repr(os.fsdecode(source))
    try:
        return _decode(io.BytesIO(source) if is_content else os.fspath(source))
    except Exception as error:  # Pillow raises almost anything for broken files
        reason = "a HEIC photo: " + HEIF_HINT if _is_heif(source) else str(error)
        raise ImageFileError(
            f"An image file that can be read whole is expected ({reason}). Received: {name}"
        ) from error


def _decode(file):
    from PIL import Image, ImageOps

    if isinstance(file, (str, bytes)) and Path(os.fsdecode(file)).suffix.lower() in HEIF_SUFFIXES:
        _register_heif()
    with Image.open(file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    return _as_rgb(upright)


def shown_size(content: bytes) -> tuple[int, int]:
    """Height and width of an image as `decode_image` shows it, by its header alone.

    Args:
        content: of the file, or what TensorFlow hands over for it.

    Raises:
        ImageFileError: for a content that is no image.
    """
    (height, width), orientation = _header(content)
    return (width, height) if orientation in ON_ITS_SIDE else (height, width)


def stored_size(content: bytes) -> tuple[int, int]:
    """Height and width of an image before EXIF's orientation, by its header alone.

    Args:
        content: of the file, or what TensorFlow hands over for it.

    Raises:
        ImageFileError: for a content that is no image.
    """
    return _header(content)[0]


def orientation_of(content: bytes) -> np.int64:
    """How EXIF says that an image is to be turned, 1 to 8; 1 where it says nothing.

    Args:
        content: of the file, or what TensorFlow hands over for it.

    Raises:
        ImageFileError: for a content that is no image.
    """
    orientation = _header(content)[1]
    return np.int64(orientation if orientation in range(1, 9) else 1)


def _header(content):
    """Height and width as they are stored, and EXIF's orientation."""
    from PIL import Image

    content = content.item() if isinstance(content, np.ndarray) else content
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            return (height, width), image.getexif().get(ORIENTATION_TAG, 1)
    except Exception as error:  # Pillow raises almost anything for broken files
        raise ImageFileError(
            f"An image file with a header is expected ({error}). Received: {len(content)} bytes"
        ) from error


def _as_rgb(image):
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.max(initial=0) > 65535 or values.min(initial=0) < 0:
            raise ValueError("pixels of 32 bits")
        upper = values >> 8 if image.mode != "I" or values.max(initial=0) > 255 else values
        return np.repeat(upper.astype("uint8")[..., None], 3, -1)
    if image.mode == "F":
        raise ValueError("pixels that are fractions, whose range nobody says")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _register_heif():
    """Lets Pillow read HEIC where `pillow-heif` is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def _is_heif(source):
    try:
        head = source[:16] if isinstance(source, bytes) else _head(source)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _head(path):
    with open(path, "rb") as file:
        return file.read(16)


def decode_tensor(encoded, ratio: int = 1):
    """`decode_image` in a TensorFlow graph, for `tf.data`: the same pixels.

    TensorFlow reads the plain JPEGs and PNGs, which most files are; Pillow, called from the
    graph, all others.

    Args:
        encoded: a file's content, a scalar string.
        ratio: 1, 2, 4 or 8 times smaller a JPEG may come that TensorFlow reads, which is quicker.

    Returns: uint8 (H, W, 3).
    """
    import tensorflow as tf

    image = tf.cond(
        is_plain_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(encoded),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_other(encoded):
    import tensorflow as tf

    return tf.cond(
        _is_plain_png(encoded),
        lambda: tf.io.decode_png(encoded, channels=3),
        lambda: tf.numpy_function(_decode_content, [encoded], tf.uint8, stateful=False),
    )


def _decode_content(content):
    """`decode_image` of what TensorFlow hands over: bytes from a graph, an array outside of one."""
    return decode_image(content.item() if isinstance(content, np.ndarray) else content)


def is_plain_jpeg(encoded):
    """Whether TensorFlow reads a JPEG as Pillow does: grey or RGB, and not to be turned.

    Args:
        encoded: a file's content, a scalar string.

    Returns: a scalar truth value, a tensor.
    """
    import tensorflow as tf

    def look():
        header = tf.strings.substr(encoded, 0, _JPEG_HEADER)
        turned = tf.strings.regex_full_match(header, _TURNED_JPEG)
        return ~turned & (tf.io.extract_jpeg_shape(encoded)[2] != 4)  # CMYK has four channels

    return tf.cond(tf.io.is_jpeg(encoded), look, lambda: tf.constant(False))


def _is_plain_png(encoded):
    """Whether a PNG holds grey or RGB of 8 bits, and nothing that changes how it is shown."""
    import tensorflow as tf

    begins = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"

    def look():
        kind = tf.strings.substr(encoded, 24, 2)  # bits, and colour type
        plain = (kind == b"\x08\x00") | (kind == b"\x08\x02")
        return plain & ~tf.strings.regex_full_match(encoded, _SPECIAL_PNG)

    long_enough = tf.strings.length(encoded) >= 26
    return tf.cond(begins & long_enough, look, lambda: tf.constant(False))


def find_image_files(folder: str | os.PathLike) -> list[Path]:
    """The image files of a folder and of the folders in it, in the order of their paths.

    Hidden files and folders are passed over, and such as archives leave behind (`__MACOSX`).
    """
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_ignored(name)]
        found += [
            Path(root, name)
            for name in names
            if not is_ignored(name) and Path(name).suffix.lower() in (*SUFFIXES, *HEIF_SUFFIXES)
        ]
    return sorted(found)


def sample_image_files(
    folder: str | os.PathLike, count: int | None = None, seed: int = 0
) -> list[Path]:
    """Image files of a folder: as many of each folder in it, by chance, up to a number.

    Args:
        folder: searched in depth.
        count: how many; None for all.
        seed: of the choice.
    """
    files = find_image_files(folder)
    if count is None:
        return files
    shuffled = random.Random(seed)
    groups: dict[tuple, list[Path]] = {}
    for file in files:
        groups.setdefault(file.relative_to(folder).parts[:-1], []).append(file)
    for group in groups.values():
        shuffled.shuffle(group)
    chosen: list[Path] = []
    while len(chosen) < min(count, len(files)):
        for group in groups.values():
            if group and len(chosen) < count:
                chosen.append(group.pop())
    return chosen


def is_ignored(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or left behind by an archive."""
    return name.startswith(".") or name in _IGNORED_FOLDERS


def readable_images(
    files: Iterable[str | os.PathLike], limit: int | None = None
) -> Iterator[tuple[Path, np.ndarray]]:
    """The images among files: each path with its pixels. A warning names those that cannot be read.

    Args:
        files: paths.
        limit: end after so many images; None for all.
    """
    broken = []
    count = 0
    for file in files:
        if limit is not None and count >= limit:
            break
        try:
            pixels = decode_image(file)
        except ImageFileError:
            broken.append(os.fsdecode(file))
            continue
        count += 1
        yield Path(file), pixels
    if broken:
        warnings.warn(
            f"{len(broken)} files cannot be read as images, and are left out: "
            f"{abbreviated(broken)}.",
            stacklevel=2,
        )


def abbreviated(names: list[str]) -> str:
    """The first few names of a list, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
