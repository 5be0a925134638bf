"""Augmentations: slow plain references (NumPy, Pillow) and closed-form properties over draws."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_hybrid.training.augmentation import color, erasing, mixing, randaugment
from keras_hybrid.training.data.pipeline import training_dataset

DRAWS = 1000


@pytest.fixture(scope="module")
def image():
    """A smooth picture with an edge: (40, 48, 3), whole numbers from 0 to 255."""
    y, x = np.mgrid[:40, :48]
    picture = np.stack([5 * x + y, 200 - 3 * y + x, 90 + 40 * np.sin(x / 6)], -1)
    picture[10:20, 12:30] *= 0.4
    return picture.clip(3, 251).round().astype("float32")


def pillow(image):
    return Image.fromarray(image.astype("uint8"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: color.brightness(x, 0.6), lambda p: ImageEnhance.Brightness(p).enhance(0.6)),
        (lambda x: color.contrast(x, 1.5), lambda p: ImageEnhance.Contrast(p).enhance(1.5)),
        (lambda x: color.saturation(x, 0.3), lambda p: ImageEnhance.Color(p).enhance(0.3)),
        (lambda x: color.sharpness(x, 1.8), lambda p: ImageEnhance.Sharpness(p).enhance(1.8)),
        (color.invert, ImageOps.invert),
        (lambda x: color.solarize(x, 100), lambda p: ImageOps.solarize(p, 100)),
        (lambda x: color.posterize(x, tf.constant(3)), lambda p: ImageOps.posterize(p, 3)),
        (color.autocontrast, ImageOps.autocontrast),
        (color.equalize, ImageOps.equalize),
    ],
    ids=[
        "brightness",
        "contrast",
        "saturation",
        "sharpness",
        "invert",
        "solarize",
        "posterize",
        "autocontrast",
        "equalize",
    ],
)
def test_colour_operations_are_pillows(image, ours, theirs):
    expected = np.asarray(theirs(pillow(image))).astype("float32")
    difference = np.abs(ours(tf.constant(image)).numpy() - expected)
    assert difference.max() <= 2  # Pillow rounds, in several places
    assert np.abs(expected - image).mean() > 0.5  # and it does something


def test_solarize_add_adds_below_128(image):
    expected = np.where(image < 128, np.minimum(image + 60, 255), image)
    np.testing.assert_allclose(color.solarize_add(tf.constant(image), 60.0), expected)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_geometric_operations_are_pillows(image, name, sign):
    level = 7.0
    result = randaugment.operations(tf.constant(image), level, tf.constant(sign))[name]().numpy()
    height, width = image.shape[:2]
    matrices = {
        "shear_x": (1, sign * 0.21, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * 0.21, 1, 0),
        "translate_x": (1, 0, sign * 0.315 * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * 0.315 * height),
    }
    if name == "rotate":
        moved = pillow(image).rotate(
            sign * 21, Image.Resampling.BILINEAR, fillcolor=randaugment_fill()
        )
    else:
        moved = pillow(image).transform(
            (width, height),
            Image.Transform.AFFINE,
            matrices[name],
            Image.Resampling.BILINEAR,
            fillcolor=randaugment_fill(),
        )
    expected = np.asarray(moved).astype("float32")
    # Borders are soft here and hard there: compare away from edges by the median and the mean.
    difference = np.abs(result - expected)
    assert np.median(difference) <= 1 and difference.mean() < 5
    assert np.abs(expected - image).mean() > 10


@pytest.mark.parametrize("name", ["rotate", "shear_x", "translate_y"])
def test_bicubic_moves_are_pillows(image, name):
    def move(picture, matrix):
        return randaugment.affine(picture, matrix, interpolation="bicubic")

    moved = randaugment.operations(tf.constant(image), 7.0, tf.constant(1.0), move=move)[name]()
    height, width = image.shape[:2]
    matrices = {"shear_x": (1, 0.21, 0, 0, 1, 0), "translate_y": (1, 0, 0, 0, 1, 0.315 * height)}
    options = {"resample": Image.Resampling.BICUBIC, "fillcolor": randaugment_fill()}
    if name == "rotate":
        expected = pillow(image).rotate(21, **options)
    else:
        size, kind = (width, height), Image.Transform.AFFINE
        expected = pillow(image).transform(size, kind, matrices[name], **options)
    difference = np.abs(moved.numpy() - np.asarray(expected).astype("float32"))
    assert np.median(difference) <= 1 and difference.mean() < 5
    bilinear = randaugment.operations(tf.constant(image), 7.0, tf.constant(1.0))[name]().numpy()
    assert np.abs(bilinear - moved).max() > 5  # it is another picture


def test_the_plain_list_of_operations_is_timms(image):
    """`rand-m9-mstd0.5` without `inc`, at m9: Pillow's operations with timm's arguments."""
    expected = {
        "posterize": ImageOps.posterize(pillow(image), 3),
        "solarize": ImageOps.solarize(pillow(image), 230),
        "color": ImageEnhance.Color(pillow(image)).enhance(1.72),
        "contrast": ImageEnhance.Contrast(pillow(image)).enhance(1.72),
        "brightness": ImageEnhance.Brightness(pillow(image)).enhance(1.72),
        "sharpness": ImageEnhance.Sharpness(pillow(image)).enhance(1.72),
    }
    for sign in (1.0, -1.0):
        plain = randaugment.operations(tf.constant(image), 9.0, tf.constant(sign), increasing=False)
        for name, picture in expected.items():
            difference = np.abs(plain[name]().numpy() - np.asarray(picture).astype("float32"))
            assert difference.max() <= 2, name
    grown = randaugment.operations(tf.constant(image), 9.0, tf.constant(1.0))
    assert np.abs(grown["solarize"]() - np.asarray(expected["solarize"])).mean() > 50


@pytest.mark.large
def test_random_interpolation_draws_both(image):
    numbers = randaugment.RandAugment(9, 0.0, num_operations=1, interpolation="random")
    draw = tf.function(
        lambda seed: randaugment.rand_augment(tf.constant(image), numbers, tf.stack([seed, 5]))
    )
    results = {draw(tf.constant(seed)).numpy().tobytes() for seed in range(150)}
    # 15 operations of which 5 move, to either side, in two ways; 3 have no sign.
    assert 15 + 5 + 10 < len(results) <= 12 * 2 + 5 * 2 * 2


def randaugment_fill():
    return tuple(int(value) for value in randaugment.FILL)


def test_randaugment_draws_every_operation_and_none_half_the_time(image, monkeypatch):
    """Each operation is replaced by a constant that tells which it was."""
    names = list(randaugment.operations(tf.constant(image), 5.0, 1.0))
    assert len(names) == randaugment.NUM_OPERATIONS

    levels = []

    def marked(picture, level, sign, increasing, move):
        levels.append((level, sign))
        return {
            name: lambda index=index: tf.fill(tf.shape(picture), 1000.0 * (index + 1) + level)
            for index, name in enumerate(names)
        }

    monkeypatch.setattr(randaugment, "operations", marked)
    numbers = randaugment.RandAugment(9, 0.5, num_operations=1)
    draw = tf.function(
        lambda seed: randaugment.rand_augment(tf.constant(image), numbers, tf.stack([seed, 5]))
    )
    values = np.array([draw(tf.constant(seed))[0, 0, 0].numpy() for seed in range(DRAWS)])
    applied = values[values >= 1000]
    assert abs(len(applied) / DRAWS - 0.5) < 0.06
    counts = np.bincount((applied // 1000).astype(int) - 1, minlength=15)
    assert counts.min() > 0.3 * len(applied) / 15 and counts.max() < 2 * len(applied) / 15
    magnitudes = applied % 1000
    assert magnitudes.max() <= 10 and abs(magnitudes.mean() - 9) < 0.1
    assert 0.35 < magnitudes.std() < 0.6


def test_randaugment_stays_in_range_and_repeats_under_a_seed(image):
    numbers = randaugment.RandAugment(9, 0.5)
    draw = tf.function(
        lambda seed: randaugment.rand_augment(tf.constant(image), numbers, tf.stack([seed, 5]))
    )
    results = [draw(tf.constant(seed)).numpy() for seed in range(60)]
    assert all(result.shape == image.shape for result in results)
    assert min(map(np.min, results)) >= -1e-3 and max(map(np.max, results)) <= 255 + 1e-3
    assert len({result.tobytes() for result in results}) > 30
    np.testing.assert_array_equal(draw(tf.constant(3)), results[3])


def test_colour_jitter_draws_factors_in_range(image):
    grey = tf.fill([4, 4, 3], 100.0)  # contrast and saturation leave an even grey
    jitter = tf.function(lambda seed: color.color_jitter(grey, 0.4, tf.stack([seed, 0])))
    values = np.array([jitter(tf.constant(seed))[0, 0, 0].numpy() for seed in range(DRAWS)])
    assert 60 <= values.min() < 63 and 137 < values.max() <= 140.01
    assert abs(values.mean() - 100) < 3
    assert color.color_jitter(grey, 0, [0, 0]) is grey


def test_mixup_keeps_the_labels_mass_and_is_the_plain_formula():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(7, 8, 8, 3)).astype("float32")
    labels = np.eye(5, dtype="float32")[rng.integers(0, 5, 7)]
    mixed, soft = mixing.mixup(tf.constant(images), tf.constant(labels), 0.3)
    for i, other in enumerate([1, 0, 3, 2, 5, 4, 6]):
        np.testing.assert_allclose(mixed[i], 0.3 * images[i] + 0.7 * images[other], rtol=1e-5)
        np.testing.assert_allclose(soft[i], 0.3 * labels[i] + 0.7 * labels[other], rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(soft, -1), 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_drawn_from_a_beta(alpha):
    draw = tf.function(lambda seed: mixing.beta_draw(alpha, tf.stack([seed, 0])))
    draws = np.array([draw(tf.constant(seed)).numpy() for seed in range(DRAWS)])
    assert draws.min() >= 0 and draws.max() <= 1
    assert abs(draws.mean() - 0.5) < 0.05
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(draws.var() / variance - 1) < 0.12


def test_cutmix_pastes_an_area_equal_to_the_labels_weight():
    images = tf.stack([tf.fill([16, 20, 3], float(i)) for i in range(4)])
    labels = tf.eye(4)
    cut = tf.function(
        lambda seed, share: mixing.cutmix(
            images, labels, mixing.cutmix_box(16, 20, share, tf.stack([seed, 0]))
        )
    )
    weights = []
    for seed in range(DRAWS):
        share = np.float32(seed / DRAWS)
        mixed, soft = cut(tf.constant(seed), tf.constant(share))
        own = np.mean(mixed[0].numpy() == 0)
        np.testing.assert_allclose(soft[0], [own, 1 - own, 0, 0], atol=1e-6)
        pasted = np.argwhere(mixed[0, ..., 0].numpy() == 1)
        if len(pasted):  # one box, of nearly the share asked for unless the border cut it
            extent = pasted.max(0) - pasted.min(0) + 1
            assert extent.prod() == len(pasted)
        assert 1 - own <= 1 - share + 1e-6
        weights.append(own)
    assert np.mean(weights) > 0.5 and np.min(weights) < 0.2


def test_mix_switches_between_the_two():
    images = tf.stack([tf.fill([16, 16, 3], float(i)) for i in range(2)])
    labels = tf.eye(2)
    mix = tf.function(lambda seed: mixing.mix(images, labels, 1.0, 1.0, 0.3, tf.stack([seed, 0])))
    cut = 0
    for seed in range(DRAWS):
        mixed, soft = mix(tf.constant(seed))
        np.testing.assert_allclose(tf.reduce_sum(soft, -1), 1, rtol=1e-5)
        cut += len(np.unique(mixed[0])) > 1 or float(soft[0, 0]) in (0, 1)
    assert abs(cut / DRAWS - 0.3) < 0.05
    assert mixing.mix(images, labels, 0, 0, 0.5, [0, 0]) == (images, labels)


def test_groups_of_a_batch_mix_with_draws_of_their_own(source, recipe):
    """As the parts of a batch on several devices do in the authors' programs."""
    recipe = dataclasses.replace(recipe, mixup=1.0, epochs=1)
    grouped = dataclasses.replace(recipe, mixing_group=2)
    for changed, groups in ((recipe, 1), (grouped, 4)):
        for images, labels in training_dataset(source, changed):
            assert images.shape == (8, 64, 64, 3)
            np.testing.assert_allclose(tf.reduce_sum(labels, -1), 1, rtol=1e-5)
            shares = {round(float(share), 4) for share in tf.reduce_max(labels, -1) if share < 0.99}
            assert len(shares) <= groups
    assert len(shares) > 1
    with pytest.raises(ValueError, match="`mixing_group` must be a divisor of the 8 images"):
        dataclasses.replace(recipe, mixing_group=3)


def test_erasing_covers_the_area_asked_for_as_often_as_asked():
    picture = tf.zeros([60, 80, 3])
    erase = tf.function(lambda seed: erasing.random_erasing(picture, 0.25, tf.stack([seed, 9])))
    areas, noise = [], []
    for seed in range(DRAWS):
        result = erase(tf.constant(seed)).numpy()
        changed = np.argwhere(result[..., 0] != 0)
        if len(changed):
            extent = changed.max(0) - changed.min(0) + 1
            assert extent.prod() == len(changed)  # a full box
            areas.append(len(changed) / (60 * 80))
            noise.append(result[result != 0])
    assert abs(len(areas) / DRAWS - 0.25) < 0.045
    assert min(areas) > 0.02 * 0.9 and max(areas) < 1 / 3 * 1.05
    noise = np.concatenate(noise)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert erasing.random_erasing(picture, 0, [0, 0]) is picture


@pytest.mark.large
def test_a_recipe_turns_everything_on_and_an_epoch_stays_repeatable(source, recipe):
    everything = dataclasses.replace(
        recipe,
        randaugment_magnitude=9.0,
        mixup=0.8,
        cutmix=1.0,
        erase_probability=0.5,
    )
    first = [(x.numpy(), y.numpy()) for x, y in training_dataset(source, everything)]
    later = [(x.numpy(), y.numpy()) for x, y in training_dataset(source, everything, 2)]
    for (x, y), (again_x, again_y) in zip(first[8:], later, strict=True):
        np.testing.assert_array_equal(x, again_x)
        np.testing.assert_array_equal(y, again_y)
    labels = np.concatenate([y for _, y in first])
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-5)
    assert ((labels > 0.02) & (labels < 0.98)).any()
    plain = next(iter(training_dataset(source, recipe)))[0].numpy()
    jitter = dataclasses.replace(recipe, color_jitter=0.4)
    assert not np.allclose(next(iter(training_dataset(source, jitter)))[0].numpy(), plain)
