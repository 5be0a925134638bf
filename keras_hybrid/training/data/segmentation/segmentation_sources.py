"""Where images with a class for each pixel come from: a folder of masks, or a set of TFDS."""

import os
from pathlib import Path

from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource

FOLDER_PREFIX = "folder:"


def open_segmentation_source(data: str, data_dir: str | None = None) -> SegmentationSource:
    """Opens, and where needed prepares, a data set for segmentation.

    Args:
        data: a folder of pictures and masks, its path alone or after "folder:"; "digit_scenes";
            or a TFDS set with masks, such as "coco/2017_panoptic".
        data_dir: TFDS' folder of prepared sets, where it is also kept what was seen of a folder;
            None for TFDS' default.

    Raises:
        ValueError: for an unknown set, or masks that do not say which class each pixel is of.
    """
    data = os.fspath(data)
    if data.startswith(FOLDER_PREFIX) or (os.sep in data and Path(data).expanduser().is_dir()):
        from keras_hybrid.training.data.segmentation.mask_folder import read_mask_folder

        cache = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
        return read_mask_folder(data.removeprefix(FOLDER_PREFIX), cache)
    from keras_hybrid.training.data.segmentation.tfds_masks import open_tfds_masks  # slow to import

    return open_tfds_masks(data, data_dir)
