"""Mask R-CNN on iFormer for COCO as published: 12 epochs of batches of 16.

    python recipes/train.py --recipe=detect/iformer --variant=M --data=folder:/data/coco \\
        --out=runs/mask_rcnn_iformer_m

Cost to expect: 12 passes over 117,266 images with objects, some 330 G multiply-adds each;
--dry_run prints the steps. The folder is COCO's own, with train2017, val2017 and annotations; of
TFDS, --data=coco/2017_panoptic has masks of the same objects, none of which overlap.
Published result: box AP M 40.8, L 42.2, L2 44.6 %; mask AP M 37.9, L 39.1, L2 41.1 %.

From the distilled classifiers of ImageNet. Batch norms keep their statistics, all else trains.
Batches hold wide images or upright ones, and are padded to 800 x 1344 or 1344 x 800 px; images are
evaluated one at a time.

Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.2 and Table 5; the numbers are
those of the authors' configuration, samplers and losses those of MMDetection.
"""

from keras_hybrid.training.recipe.instances import InstanceRecipe

VARIANTS = ("M", "L", "L2")


def get_recipe(variant: str = "M") -> InstanceRecipe:
    """The recipe for a row of the paper's Table 5, or for L2, published with the code."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return InstanceRecipe(
        model=f"IFormer{variant}",
        model_options={"window_size": 16},
        initial_weights="imagenet_distill",
        fit="800x1333",
        resolution=1344,  # 1333 filled up to a multiple of 32
        shorter_side=800,
        epochs=12,
        batch_size=16,
        learning_rate=2e-4,
        decay="multistep",
        decay_epochs=(8, 11),
        warmup_steps=500,
        warmup_learning_rate=2e-10,
        weight_decay=0.05,
        decayed=("all",),
        frozen_statistics=True,
        empty_images=False,
        candidates=2000,
        regions=512,
        positive_regions=128,
    )
