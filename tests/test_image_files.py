"""One decoder: what a file shows is what the network sees, in a graph and outside of one."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_hybrid.image_files import (
    ImageFileError,
    decode_image,
    decode_tensor,
    find_image_files,
    is_plain_jpeg,
    readable_images,
)

RED, BLUE, GREEN = (250, 20, 20), (20, 20, 250), (20, 250, 20)
in_graph = tf.function(decode_tensor, input_signature=[tf.TensorSpec((), tf.string)])


def picture(height=40, width=56):
    """Red above blue, with a green corner at the top left: each orientation is another picture."""
    image = np.zeros((height, width, 3), "uint8")
    image[: height // 2], image[height // 2 :] = RED, BLUE
    image[: height // 4, : width // 4] = GREEN
    return Image.fromarray(image)


def content(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def turned(orientation, kind="JPEG"):
    """The picture as a camera held otherwise writes it."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = picture() if back is None else picture().transpose(back)
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    return content(image, kind, exif=exif(orientation), **options)


def transparent():
    image = np.zeros((40, 56, 4), "uint8")
    image[..., :3] = np.asarray(picture())
    image[10:30, :, 3] = 255
    return Image.fromarray(image)


ON_WHITE = np.asarray(picture()).copy()
ON_WHITE[:10], ON_WHITE[30:] = 255, 255
SIXTEEN = np.linspace(0, 65535, 40 * 56).reshape(40, 56).astype("uint16")
GREYS = np.asarray(picture().convert("L").convert("RGB"))
FILES = {
    "jpeg": (content(picture(), "JPEG", quality=95, subsampling=0), picture()),
    "grey jpeg": (content(picture().convert("L"), "JPEG", quality=95), GREYS),
    "cmyk jpeg": (content(picture().convert("CMYK"), "JPEG", quality=95), picture()),
    **{f"orientation {i}": (turned(i), picture()) for i in range(1, 9)},
    "png": (content(picture(), "PNG"), picture()),
    "grey png": (content(picture().convert("L"), "PNG"), GREYS),
    "palette png": (content(picture().quantize(16), "PNG"), picture()),
    "turned png": (turned(6, "PNG"), picture()),
    "16 bits": (content(Image.fromarray(SIXTEEN), "PNG"), np.repeat(SIXTEEN[..., None] >> 8, 3, 2)),
    "alpha": (content(transparent(), "PNG"), ON_WHITE),
    "colour key": (content(picture(), "PNG", transparency=BLUE), None),
    "palette bmp": (content(picture().quantize(16), "BMP"), picture()),
    "gif": (content(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (56, 40))]),
            picture()),
    "webp": (content(picture(), "WEBP", lossless=True), picture()),
    "tiff": (content(picture(), "TIFF"), picture()),
    "one bit": (content(picture().convert("1", dither=0), "PNG"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_it_is_shown_in_a_graph_too(name):
    encoded, expected = FILES[name]
    pixels = decode_image(encoded)
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 56, 3)
    np.testing.assert_array_equal(in_graph(tf.constant(encoded)), pixels)
    np.testing.assert_array_equal(decode_tensor(tf.constant(encoded)), pixels)
    if expected is not None:
        difference = np.abs(pixels.astype(int) - np.asarray(expected))
        assert difference.mean() < 4, name


def test_a_key_colour_is_transparent():
    pixels = decode_image(FILES["colour key"][0])
    assert (pixels[30] == 255).all() and tuple(pixels[15, 40]) == RED


def test_plain_photos_are_left_to_tensorflow_with_the_same_pixels():
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (9, 12, 3), "uint8")).resize((131, 97))
    for options in ({}, {"subsampling": 1}, {"progressive": True}, {"exif": exif(1)}):
        encoded = content(photo, "JPEG", quality=85, **options)
        assert is_plain_jpeg(tf.constant(encoded))
        np.testing.assert_array_equal(in_graph(tf.constant(encoded)), decode_image(encoded))
    for name in ("cmyk jpeg", "orientation 6", "png", "webp"):
        assert not is_plain_jpeg(tf.constant(FILES[name][0])), name


def test_what_cannot_be_read_is_named(tmp_path):
    whole = content(picture(300, 300).resize((900, 900)), "JPEG")
    bad = {
        "half.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "page.jpg": b"<html>",
        "half.png": FILES["png"][0][:-60],
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageFileError, match=rf"Received: .*{name}"):
            decode_image(tmp_path / name)
        with pytest.raises(tf.errors.OpError):
            in_graph(tf.constant(data))
    with pytest.raises(ImageFileError, match="Received: .*none.jpg"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(ImageFileError, match="Received: 6 bytes"):
        decode_image(b"<html>")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(ImageFileError, match="pillow-heif.*photo.heic"):
        decode_image(tmp_path / "photo.heic")


def test_a_folder_is_searched_in_depth_and_broken_files_are_left_out_by_name(tmp_path):
    for name in ("b/c.JPG", "a.png", "d.jpg", ".hidden.png", "__MACOSX/e.png", ".git/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(FILES["png"][0])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "d.jpg").write_bytes(FILES["jpeg"][0][:200])
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"  # from an archive of another system
    with open(odd, "wb") as file:
        file.write(FILES["png"][0])
    files = find_image_files(tmp_path)
    assert len(files) == 4
    with pytest.warns(UserWarning, match=r"^1 files cannot be read.*d\.jpg"):
        read = dict(readable_images(files))
    assert {path.name for path in read} == {"a.png", "c.JPG", os.fsdecode(odd).split("/")[-1]}
    assert all(pixels.shape == (40, 56, 3) for pixels in read.values())
    assert len(list(readable_images(files, limit=1))) == 1
