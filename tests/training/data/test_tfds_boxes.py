"""Detection sets of TFDS: the scenes of digits as the scenes themselves, and what is none."""

import numpy as np
import pytest

from keras_hybrid.training.data.detection.tfds_boxes import objects_of_tfds, open_tfds_boxes


def test_shares_become_pixels_and_crowds_stay_crowds():
    objects = {
        "bbox": np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], "float32"),
        "label": np.array([3, 1]),
        "is_crowd": np.array([False, True]),
        "area": np.array([7, 9]),
    }
    found = objects_of_tfds(objects, 50, 200)
    np.testing.assert_allclose(found.boxes, [[40, 5, 120, 25], [0, 0, 200, 50]], rtol=1e-6)
    assert found.crowd.tolist() == [False, True] and found.areas.tolist() == [7, 9]
    assert len(found.trainable()) == 1
    nothing = objects_of_tfds({"bbox": np.zeros((0, 4)), "label": np.zeros(0)}, 5, 5)
    assert len(nothing) == 0


def test_what_is_no_detection_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="objects"):
        open_tfds_boxes("mnist", str(tmp_path))
    with pytest.raises(ValueError, match="TFDS does not know"):
        open_tfds_boxes("no_such_set", str(tmp_path))
