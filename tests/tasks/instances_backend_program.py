"""Run by test_instances_backends.py on each backend: what Mask R-CNN finds, its losses, steps."""

import json
import sys

import keras
import numpy as np
from keras import layers

import keras_hybrid
from keras_hybrid.tasks.detection.objects import padded
from keras_hybrid.weights.family import Preprocessing

PLAIN = Preprocessing(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)


def network():
    x = image = keras.Input((64, 64, 3))
    for index in range(5):
        x = layers.ZeroPadding2D(1, data_format="channels_last")(x)
        x = layers.Conv2D(
            6, 3, strides=2, activation="relu", data_format="channels_last", name=f"down{index}"
        )(x)
    model = keras_hybrid.mask_rcnn(
        keras.Model(image, x, name="small"),
        3,
        channels=8,
        box_units=12,
        mask_convolutions=1,
        max_proposals=20,
        max_detections=12,
    )
    random = np.random.default_rng(0)
    for variable in model.variables:  # the same weights on every backend
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def main(path):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 4:40, 4:30] = masks[1, 20:50, 20:60] = True
    objects = padded(
        [
            keras_hybrid.Objects([[4, 4, 30, 40], [20, 20, 60, 50]], [2, 0], masks=masks),
            keras_hybrid.Objects([[20, 20, 60, 50]], [1], masks=masks[1:]),
        ]
    )
    model = network()
    found = {}
    inputs = keras_hybrid.preprocess_input(images, PLAIN)
    whole = model(inputs, training=False)
    found["whole"] = [float(keras.ops.convert_to_numpy(whole[k]).sum()) for k in sorted(whole)]
    for index, one in enumerate(keras_hybrid.detect(model, list(images), preprocessing=PLAIN)):
        found[f"image {index}"] = [*map(float, one.scores[:5]), len(one), float(one.masks.sum())]
    # All regions and anchors are drawn, so that what is drawn does not depend on the backend.
    training = keras_hybrid.InstanceTraining(model, 64, 64, 60)
    training.compile(keras.optimizers.SGD(1e-3))
    for epoch in range(2):
        history = training.fit(inputs, objects, batch_size=2, shuffle=False, verbose=0).history
        if epoch == 0:
            found |= {f"loss {key}": values[-1] for key, values in history.items()}
        assert np.isfinite(history["loss"]).all()
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
