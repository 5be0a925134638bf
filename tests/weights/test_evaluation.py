"""The published protocol over a folder, by the library and by recipes/evaluate.py."""

import numpy as np
import pytest
from absl import app, flags
from safetensors.numpy import save

import keras_hybrid
from keras_hybrid.weights.evaluation import evaluate_published, synset_examples
from keras_hybrid.weights.labels import imagenet_classes
from keras_hybrid.weights.presets import find_preset

IMAGES = 6


@pytest.fixture
def published(homes, golden):
    """MobileViT-XXS with a golden's weights, from its home."""
    golden = golden("mobilevit_xxs")
    preset = find_preset("MobileViTXXS", "imagenet")
    homes.hugging_face(preset.homes[0].repository, "model.safetensors", save(golden.state_dict()))
    return preset


@pytest.fixture
def imagenet(published, tmp_path, require):
    """JPEG files in the folders of classes: four as the model sees them, one second, one wrong."""
    require(module="PIL")
    from PIL import Image

    model = keras_hybrid.MobileViTXXS()
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype="uint8"))
        image = coarse.resize((300 + 10 * index, 280))
        image.save(tmp_path / "image.jpg", quality=95)
        pixels = np.asarray(Image.open(tmp_path / "image.jpg"))
        inputs = keras_hybrid.preprocess_input(keras_hybrid.evaluation_image(pixels, model), model)
        (best,) = keras_hybrid.decode_predictions(model.predict(inputs[None], verbose=0), top=9)
        synset = best[{4: 1, 5: 8}.get(index, 0)][0]
        folder = tmp_path / "val" / synset
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "image.jpg").rename(folder / f"{index}.JPEG")
    return tmp_path / "val"


@pytest.mark.large
def test_accuracy_over_a_folder(published, imagenet):
    examples, count = synset_examples(imagenet)
    assert count == IMAGES
    model = keras_hybrid.MobileViTXXS(classifier_activation=None)
    accuracy = evaluate_published(model, published, examples, count, batch_size=4)
    assert accuracy.images == IMAGES
    assert accuracy.top1 == pytest.approx(4 / 6)
    assert accuracy.top5 == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="Received: outputs"):
        evaluate_published(
            keras_hybrid.MobileViTXXS(weights=None, classes=3), published, examples, 6
        )
    with pytest.raises(ValueError, match="count=0"):
        evaluate_published(model, published, examples, 0)


@pytest.fixture
def evaluate(program):
    """Runs recipes/evaluate.py with flags."""
    names = ("run", "model", "weights", "batch_size", "best", "data", "split", "data_dir")
    names += ("per_class",)
    for name in set(names) & set(flags.FLAGS):
        delattr(flags.FLAGS, name)
    module = program("evaluate")

    def run(*arguments):
        for name in names:
            flags.FLAGS[name].unparse()
        flags.FLAGS(["evaluate.py", *map(str, arguments)])
        module.main(["evaluate.py"])

    yield run
    for name in names:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.mark.large
def test_the_program_prints_the_published_figure_beside_its_own(imagenet, evaluate, capsys):
    evaluate("--model=MobileViTXXS", "--weights=imagenet", f"--data={imagenet}", "--batch_size=4")
    line = capsys.readouterr().out.splitlines()[-1]
    assert "6 images: top-1 66.67% (published 68.9%), top-5 83.33%" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run=a", "--weights=imagenet"], "either --run or --weights"),
        ([], "either --run or --weights"),
        (["--weights=imagenet", "--data=x"], "needs --model and --data"),
        (["--weights=none", "--model=IFormerT", "--data=x"], "has the published weights"),
        (["--weights=imagenet", "--model=IFormerT", "--data=no_set"], "no_set"),
    ],
)
def test_the_program_refuses(evaluate, arguments, message, require):
    require(module="tensorflow_datasets")
    with pytest.raises((app.UsageError, SystemExit), match=message):
        evaluate(*arguments)


def test_labels_follow_the_synsets(tmp_path):
    for label in (281, 0):
        folder = tmp_path / imagenet_classes()[label][0]
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"x")
    examples, count = synset_examples(tmp_path)
    assert [int(example["label"]) for example in examples] == [0, 281] and count == 2


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no folder of that name"):
        synset_examples(tmp_path / "none")
    with pytest.raises(ValueError, match="no images"):
        synset_examples(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(ValueError, match="names of ImageNet-1k's synsets.*cats"):
        synset_examples(tmp_path)
