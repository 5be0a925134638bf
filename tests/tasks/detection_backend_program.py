"""Run by test_detection_backends.py on each backend: a detector's losses, a step, detections."""

import json
import sys

import keras
import numpy as np
from keras import layers

import keras_hybrid
from keras_hybrid.tasks.detection.objects import padded
from keras_hybrid.weights.family import Preprocessing

PLAIN = Preprocessing(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)


def backbone():
    x = image = keras.Input((64, 64, 3))
    for index in range(5):
        x = layers.ZeroPadding2D(1, data_format="channels_last")(x)
        x = layers.Conv2D(
            6, 3, strides=2, activation="relu", data_format="channels_last", name=f"down{index}"
        )(x)
    return keras.Model(image, x, name="small")


def filled(model):
    """The same weights on every backend."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            value = random.normal(0, 0.2, variable.shape)
            variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    return model


def main(path):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    objects = padded(
        [
            keras_hybrid.Objects([[4, 4, 30, 40], [20, 10, 60, 60]], [2, 0]),
            keras_hybrid.Objects([[10, 30, 50, 50]], [1]),
        ]
    )
    found = {}
    for head in (keras_hybrid.ssdlite, keras_hybrid.retinanet):
        small = {} if head is keras_hybrid.ssdlite else {"channels": 8, "head_convolutions": 1}
        model = filled(head(backbone(), 3, **small))
        for index, one in enumerate(
            keras_hybrid.detect(model, list(images), preprocessing=PLAIN, score_threshold=0.0)
        ):
            found[f"{head.__name__} image {index}"] = [*map(float, one.scores[:5]), len(one)]
        training = keras_hybrid.DetectionTraining(model)
        training.compile(keras.optimizers.SGD(1e-4))
        inputs = keras_hybrid.preprocess_input(images, PLAIN)
        # Batch norms of two values each, as SSDLite's at this size, amplify rounding in a step.
        for epoch in range(1 if head is keras_hybrid.ssdlite else 2):
            history = training.fit(inputs, objects, batch_size=2, shuffle=False, verbose=0).history
            for key, values in history.items():
                found[f"{head.__name__} {epoch} {key}"] = values[-1]
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
