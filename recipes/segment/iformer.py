"""Semantic FPN on iFormer for ADE20K as published: 40,000 steps of 32 crops of 512 px.

    python recipes/train.py --recipe=segment/iformer --variant=M \\
        --data=folder:/data/ADEChallengeData2016 --out=runs/semantic_fpn_iformer_m

Cost to expect: 63 passes over 20,210 images, 40,000 steps; --dry_run prints them.
Published result: mIoU M 42.4, L 44.5, L2 46.2 %.

From the distilled classifiers of ImageNet. Batch norms of the backbone keep their statistics.

Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.3 and Table 5; the numbers are
those of the authors' configuration, and augmentation that of MMSegmentation.
"""

from keras_hybrid.training.recipe.segmentation import SegmentationRecipe

VARIANTS = ("M", "L", "L2")


def get_recipe(variant: str = "M") -> SegmentationRecipe:
    """The recipe for a row of the paper's Table 5, or for L2, published with the code."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return SegmentationRecipe(
        model=f"IFormer{variant}",
        model_options={"window_size": 16},
        head="semantic_fpn",
        initial_weights="imagenet_distill",
        resolution=512,
        epochs=63,  # 631 steps each: 39,753 of the published 40,000
        batch_size=32,
        learning_rate=2e-4,
        decay="poly",
        final_learning_rate=1e-6,
        weight_decay=1e-4,
        decayed=("all",),
        frozen_statistics=True,
        loss_divisor="all",
        resize_scale=(0.5, 2.0),
        long_side=4.0,
        one_class_share=0.75,
        distortion_probability=0.5,
        evaluation_fit="inside",
    )
