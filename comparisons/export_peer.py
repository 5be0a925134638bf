"""The best alternative's file: `transformers`' MobileViT through litert-torch, random weights.

    PYTHON comparisons/export_peer.py MobileViTXXS theirs.tflite
    PYTHON comparisons/export_peer.py DeepLabV3MobileViTXXS theirs.tflite

Runs in an environment of its own, with torch, transformers and litert-torch, which wants other
versions than this package: `python3 -m venv peer; peer/bin/pip install litert-torch transformers`.
`comparisons/table.py --litert_torch=peer/bin/python` calls it and times the result beside ours.
"""

import sys

import litert_torch
import torch
from transformers import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
)

SEGMENTATION = "DeepLabV3"
# Of `transformers`' published configurations: apple/mobilevit-xx-small, -x-small and -small.
CONFIGURATIONS = {
    "MobileViTXXS": {
        "hidden_sizes": [64, 80, 96],
        "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
        "expand_ratio": 2.0,
    },
    "MobileViTXS": {
        "hidden_sizes": [96, 120, 144],
        "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 384],
    },
    "MobileViTS": {
        "hidden_sizes": [144, 192, 240],
        "neck_hidden_sizes": [16, 32, 64, 96, 128, 160, 640],
    },
}


class Logits(torch.nn.Module):
    """Image (1, 3, 256, 256) to logits (1, 1000)."""

    def __init__(self, configuration):
        super().__init__()
        self.network = MobileViTForImageClassification(configuration)

    def forward(self, image):
        return self.network(image, return_dict=False)[0]


class SegmentationLogits(torch.nn.Module):
    """Image (1, 3, 512, 512) to logits (1, 21, 32, 32), as apple/deeplabv3-mobilevit-*."""

    def __init__(self, configuration):
        super().__init__()
        self.network = MobileViTForSemanticSegmentation(configuration)

    def forward(self, image):
        return self.network(image, return_dict=False)[0]


def main(name, path):
    backbone = name.removeprefix(SEGMENTATION)
    if backbone not in CONFIGURATIONS:
        names = [f"{prefix}{x}" for prefix in ("", SEGMENTATION) for x in sorted(CONFIGURATIONS)]
        sys.exit(f"export_peer.py: one of {names} is expected. Received: {name!r}")
    torch.manual_seed(0)
    segments = backbone != name
    size, classes = (512, 21) if segments else (256, 1000)
    options = {"output_stride": 16} if segments else {}
    configuration = MobileViTConfig(
        image_size=size, num_labels=classes, **options, **CONFIGURATIONS[backbone]
    )
    network = (SegmentationLogits if segments else Logits)(configuration).eval()
    litert_torch.convert(network, (torch.zeros(1, 3, size, size),)).export(path)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: export_peer.py MODEL PATH")
    main(*sys.argv[1:])
