"""The classifier alone, fitted to the features of given weights: what fine-tuning begins with."""

import dataclasses

import keras
import numpy as np

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.optimization.finetuning import load_initial_weights
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.run import new_network
from keras_hybrid.weights.families import families


def fit_classifier(recipe: Recipe, source: ImageSource) -> keras.Model:
    """The recipe's network with its initial weights, and a classifier fitted to their features."""
    keras.utils.set_random_seed(recipe.seed)
    model = new_network(recipe, len(source.class_names))
    load_initial_weights(model, dataclasses.replace(recipe, new_classifier=True))
    names = {name for family in families() for name in family.classifiers}
    (classifier,) = (layer for layer in model.layers if layer.name in names)
    trunk = keras.Model(model.input, classifier.input)
    data = evaluation_dataset(source, recipe, "train")
    labels = np.concatenate([np.asarray(batch) for _, batch in data])
    features = trunk.predict(data.map(lambda images, _: images), verbose=0)
    classifier.set_weights(softmax_regression(features, labels))
    return model


def softmax_regression(
    features: np.ndarray, labels: np.ndarray, steps: int = 300, decay: float = 1e-2
) -> list[np.ndarray]:
    """Kernel and bias of the best linear classifier of features, every class of equal weight.

    Args:
        features: (n, channels).
        labels: one-hot, (n, classes).
        steps: of Adam on the whole set.
        decay: of the kernel, for standardised features.
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    x = ((features - mean) / deviation).astype("float64")
    weight = labels / np.maximum(labels.sum(0), 1)  # classes alike, whatever their number
    weight = weight.sum(1, keepdims=True) / weight.sum()
    values = np.zeros((x.shape[1] + 1, labels.shape[1]))
    first, second = np.zeros_like(values), np.zeros_like(values)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    for step in range(1, steps + 1):
        logits = x @ values
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        gradient = x.T @ (weight * (scores - labels)) + decay * values
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient**2 - second)
        move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        values -= 0.03 * move
    kernel = values[:-1] / deviation[:, None]
    return [kernel.astype("float32"), (values[-1] - mean @ kernel).astype("float32")]
