"""Says what is on pictures.

    keras-hybrid predict runs/p picture.jpg another.png
    keras-hybrid predict runs/p/model.tflite photos --top=1
    keras-hybrid predict MobileViTXS/imagenet cat.jpg --save=answer.png --attention=where.png
    keras-hybrid predict DeepLabV3MobileViTS/voc street.jpg --save=masks.png
    keras-hybrid predict SSDLiteMobileViTS/coco street.jpg --save=boxes.png
    keras-hybrid predict runs/masks/parts street.jpg --save=masks.png

The model is a run's folder, a .keras or .tflite file, a network's name (with ImageNet's weights) or
a preset's. Pictures are files or folders of them. Of a segmentation network the answers are the
largest classes and their shares of the picture; --save draws the label maps. Of a detector they
are the surest boxes, left, top, right and bottom in pixels; --save draws them.
"""

import sys
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import share, whole
from keras_hybrid.cli.command import DONE, UsageError, suggestion

RULES_FILE = "rules.json"  # beside the three files of a Mask R-CNN
MOST_DRAWN = 24
MOST_MASKS = 8


def add_arguments(parser):
    parser.add_argument("model", help="a run's folder, .keras, .tflite, a network or a preset")
    parser.add_argument("pictures", nargs="+", help="files, or folders of them")
    parser.add_argument("--weights", help="of a network's name: a tag or a file")
    parser.add_argument("--top", type=whole(1), default=3, help="classes or boxes a picture")
    parser.add_argument(
        "--least_score", type=share, default=0.3, help="of a detector's boxes that are told"
    )
    parser.add_argument("--save", help="PNG of the pictures with their answers")
    parser.add_argument("--attention", help="PNG of where the network looks, of the first picture")


def run(options) -> int:
    """Prints a paragraph a picture; status 2 where none can be read."""
    path = Path(options.model).expanduser()
    if path.exists() or "." in path.name or path.is_absolute() or options.model.count("/") > 1:
        path = paths.existing(options.model, "a run's folder, a .keras or a .tflite file")
        if path.is_dir() and not (path / RULES_FILE).is_file():
            paths.finished_run(options.model)
        elif path.is_dir():
            pass  # three files of a Mask R-CNN
        elif path.suffix not in (".keras", ".tflite"):
            raise UsageError(
                f"a run's folder, a .keras or a .tflite file is expected. Received: {options.model}"
            )
        else:
            paths.model_file(path)
    for flag in ("save", "attention"):
        if getattr(options, flag):
            paths.output(getattr(options, flag), ".png", f"--{flag}")
    from keras_hybrid.image_files import ImageFileError, find_image_files

    files = []
    for text in options.pictures:
        found = paths.existing(text, "a picture")
        files += find_image_files(found) if found.is_dir() else [found]
    if not files:
        raise UsageError(f"no pictures are in {', '.join(options.pictures)}")

    from keras_hybrid.cli.quiet import prepare

    prepare()
    import numpy as np

    from keras_hybrid.workflows.answers.detector import is_detector_name, open_detector
    from keras_hybrid.workflows.answers.segmenter import is_segmenter, open_segmenter
    from keras_hybrid.workflows.photos_model import open_classifier

    if is_segmenter(options.model):
        return _segment(open_segmenter(options.model, options.weights), files, options)
    if is_detector_name(options.model):
        return _detect(open_detector(options.model, options.weights), files, options)
    if not path.exists():
        _check_name(options.model)
    classifier = open_classifier(options.model, options.weights)
    if options.attention and classifier.model is None:
        raise UsageError("--attention needs the Keras model: name the run or its .keras file")
    read, crops = [], []
    for file in files:
        try:
            crops.append(classifier.crop(file))
            read.append(file)
        except ImageFileError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not read:
        raise UsageError("none of the pictures can be read")
    scores = classifier.scores(np.stack(crops))
    width = max(len(str(file)) for file in read)
    for file, row in zip(read, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: options.top]
        answers = "  ".join(f"{classifier.labels[index]} {row[index]:.1%}" for index in best)
        print(f"{str(file):<{width}}  {answers}")
    if options.save:
        from keras_hybrid.workflows.photos_pictures import draw_answers

        drawn = slice(0, MOST_DRAWN)
        draw_answers(crops[drawn], scores[drawn], classifier.labels, options.save)
        print(options.save)
    if options.attention:
        from keras_hybrid.workflows.photos_pictures import draw_attention

        draw_attention(classifier.model, crops[0], options.attention)
        print(options.attention)
    return DONE


def _segment(segmenter, files, options):
    """The answers of a segmentation network."""
    import numpy as np

    if options.attention and segmenter.model is None:
        raise UsageError("--attention needs the Keras model: name the run or its .keras file")
    masks = _answers(segmenter, files)
    width = max(len(str(file)) for file in masks)
    for file, mask in masks.items():
        labels, counts = np.unique(mask, return_counts=True)
        best = sorted(zip(counts / mask.size, labels, strict=True), reverse=True)[: options.top]
        answers = "  ".join(f"{segmenter.labels[label]} {share:.1%}" for share, label in best)
        print(f"{str(file):<{width}}  {answers}")
    if options.save:
        from keras_hybrid.analysis.segmentation_picture import plot_segmentation

        drawn = list(masks)[:MOST_MASKS]
        plot_segmentation(
            drawn,
            [masks[file] for file in drawn],
            options.save,
            classes=segmenter.labels,
            colors=segmenter.colors,
        )
        print(options.save)
    if options.attention:
        from keras_hybrid.workflows.photos_pictures import draw_attention

        draw_attention(
            segmenter.model, _as_seen(segmenter.model, next(iter(masks))), options.attention
        )
        print(options.attention)
    return DONE


def _answers(network, files):
    """What a network says of each picture that can be read; others are named."""
    from keras_hybrid.image_files import ImageFileError

    found = {}
    for file in files:
        try:
            found[file] = network.predict([file])[0]
        except ImageFileError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not found:
        raise UsageError("none of the pictures can be read")
    return found


def _detect(detector, files, options):
    """The answers of a detector."""
    import numpy as np

    if options.attention:
        raise UsageError("--attention is for classifiers and segmentation, not for a detector")
    found = _answers(detector, files)
    width = max(len(str(file)) for file in found)
    for file, one in found.items():
        shown = np.flatnonzero(one.scores >= options.least_score)[: options.top]
        answers = "  ".join(
            f"{detector.labels[one.labels[index]]} {one.scores[index]:.1%} at "
            + ",".join(f"{edge:.0f}" for edge in one.boxes[index])
            for index in shown
        )
        print(f"{str(file):<{width}}  {answers or 'nothing'}")
    if options.save:
        from keras_hybrid.analysis.detection_picture import plot_detections

        drawn = list(found)[:MOST_DRAWN]
        plot_detections(
            drawn,
            [found[file] for file in drawn],
            options.save,
            classes=detector.labels,
            score_threshold=options.least_score,
        )
        print(options.save)
    return DONE


def _as_seen(model, file):
    """The picture in the size that the network sees, RGB of 0 to 255."""
    import keras

    from keras_hybrid.image_files import decode_image
    from keras_hybrid.tasks.segmentation.protocol import protocol_of

    picture = decode_image(file).astype("float32")
    size = protocol_of(model).input_size(*picture.shape[:2])
    return keras.ops.convert_to_numpy(
        keras.ops.image.resize(picture, size, "bilinear", data_format="channels_last")
    )


def _check_name(name):
    """A network's or a preset's name; a mistyped path is told, too."""
    from keras_hybrid.models.catalogue import list_models

    builder = name.partition("/")[0]
    if builder in list_models():
        return
    near = suggestion(builder, [*list_models(), *(item.name for item in Path(".").iterdir())])
    raise UsageError(
        f"there is no run, file or network of that name{near}. Received: {name}; "
        "`keras-hybrid models` lists the networks"
    )
