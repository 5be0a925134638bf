"""What a data set for segmentation is: images with masks, in splits."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_hybrid.training.data.image_source import ImageSource


@dataclass(frozen=True)
class SegmentationSource(ImageSource):
    """Images with a class for each pixel, in splits.

    An example holds "image", an encoded file, and whatever `decode_mask` needs.

    Attributes:
        decode_mask: for `tf.data`: an example -> int32 (H, W), the class of each pixel of the
            image as `decode_tensor` shows it, 255 for none.
        image_size: (height, width) where all images are of one size; None where they differ.
    """

    decode_mask: Callable | None = None
    image_size: tuple[int, int] | None = None
