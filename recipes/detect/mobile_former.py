"""RetinaNet on Mobile-Former for COCO: the paper's 12 epochs with its "standard settings".

    python recipes/train.py --recipe=detect/mobile_former --variant=294M --data=coco/2017 \\
        --out=runs/retinanet_mobile_former_294m

Cost to expect: 12 passes over 117,266 images with objects, of 164 G multiply-adds each;
--dry_run prints the steps.
Published result: AP 151M 34.2, 214M 35.8, 294M 36.6, 508M 38.0 %.

No code of these is published. Schedule, sizes and frozen statistics are MMDetection's 1x settings,
the optimizer that of its RetinaNet on another hybrid backbone (PVT). Batches hold wide images or
upright ones, and are padded to 800 x 1344 or 1344 x 800 px; images are evaluated one at a time.

Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Section 4.2 and Table 4.
"""

from keras_hybrid.training.recipe.detection import DetectionRecipe

VARIANTS = ("151M", "214M", "294M", "508M")


def get_recipe(variant: str = "294M") -> DetectionRecipe:
    """The recipe for a row of the paper's Table 4."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return DetectionRecipe(
        model=f"MobileFormer{variant}",
        head="retinanet",
        initial_weights="imagenet",
        fit="800x1333",
        resolution=1344,  # 1333 filled up to a multiple of 32
        shorter_side=800,
        epochs=12,
        batch_size=16,
        learning_rate=1e-4,
        decay="multistep",
        decay_epochs=(8, 11),
        warmup_steps=500,
        warmup_learning_rate=1e-7,
        weight_decay=1e-4,
        decayed=("all",),
        frozen_statistics=True,
        empty_images=False,
    )
