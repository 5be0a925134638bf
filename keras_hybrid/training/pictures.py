"""Pictures of a run: its curves, and what the network says about test images."""

import numpy as np

from keras_hybrid.files import whole_file

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE = "#0072B2"
ORANGE = "#D55E00"
DOTS_PER_INCH = 200


def plot_history(history: list[dict], path):
    """Draws loss and accuracy, in training and on the evaluation split, by epoch.

    Args:
        history: rows with "epoch", "loss", "val_loss", "accuracy" and "val_accuracy".
        path: of the picture to write.
    """
    figure_class, _ = _matplotlib()
    figure = figure_class(figsize=(8, 3.4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, metric, label, scale in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("loss", "accuracy, %"), (1, 100), strict=True
    ):
        for name, legend, colour, style in (
            (metric, "training (augmented)", ORANGE, "--o"),
            (f"val_{metric}", "evaluation", BLUE, "-s"),
        ):
            values = [scale * row[name] for row in history]
            axes.plot(epochs, values, style, color=colour, label=legend, markersize=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_comparison(histories: dict[str, list[list[dict]]], path):
    """Draws the evaluation accuracy of runs of two kinds by epoch: each run thin, their mean thick.

    Args:
        histories: name -> runs of that kind, each rows with "epoch" and "val_accuracy"; two of
            them.
        path: of the picture to write.
    """
    figure_class, _ = _matplotlib()
    figure = figure_class(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, runs), colour, style in zip(
        histories.items(), (BLUE, ORANGE), ("-s", "--o"), strict=True
    ):
        epochs = [row["epoch"] for row in runs[0]]
        values = np.array([[100 * row["val_accuracy"] for row in rows] for rows in runs])
        if len(runs) > 1:
            axes.plot(epochs, values.T, color=colour, linewidth=0.7, alpha=0.5)
            name = f"{name}, mean of {len(runs)}"
        axes.plot(epochs, values.mean(0), style, color=colour, label=name, markersize=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("evaluation accuracy, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_predictions(images, labels, scores, class_names, path, rows: int = 4, columns: int = 8):
    """Draws images with the predicted class and its score; mistakes first, marked in words.

    Args:
        images: (n, H, W, 3), RGB from 0 to 255.
        labels: true classes, (n,).
        scores: (n, classes), softmax.
        class_names: a name for each class.
        path: of the picture to write.
        rows, columns: how many images.
    """
    figure_class, rc_context = _matplotlib()
    labels, scores = np.asarray(labels), np.asarray(scores)
    predictions = scores.argmax(-1)
    wrong = predictions != labels
    order = np.concatenate([np.flatnonzero(wrong), np.flatnonzero(~wrong)])[: rows * columns]
    with rc_context({"font.size": 9}):
        figure = figure_class(figsize=(1.25 * columns, 1.6 * rows + 0.4), layout="constrained")
        figure.suptitle(
            f"{wrong.sum()} of {len(labels)} images wrong"
            + (" (first, in orange)" if wrong.any() else "")
            + "; predicted class and its score"
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, index in zip(grid.flat, order, strict=False):
            axes.imshow(np.clip(np.asarray(images[index]), 0, 255).astype("uint8"))
            predicted = class_names[predictions[index]]
            title = f"{predicted}  {scores[index].max():.0%}"
            if wrong[index]:
                title += f"\nis {class_names[labels[index]]}"
            axes.set_title(
                title, color=ORANGE if wrong[index] else "black", fontsize=9, linespacing=1.1
            )
        _save(figure, path)


def _matplotlib():
    """Matplotlib without its global figure list; imported by whoever draws."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    return Figure, rc_context


def _save(figure, path):
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
