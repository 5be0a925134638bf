"""Semantic FPN on scenes of handwritten digits: no download, any of the networks as backbone.

    python recipes/train.py --recipe=segment/digits --data=digit_scenes --out=runs/scenes

Cost to expect: 20 minutes on two cores for iFormer-T.
Published result: none.
"""

from keras_hybrid.training.recipe.segmentation import SegmentationRecipe


def get_recipe(variant: str = "IFormerT") -> SegmentationRecipe:
    """The recipe for a backbone's builder name."""
    return SegmentationRecipe(
        model=variant,
        head="semantic_fpn",
        head_options={"neck_channels": 64, "head_channels": 64},
        resolution=128,
        epochs=60,
        batch_size=16,
        learning_rate=2e-3,
        warmup_epochs=3,
        final_learning_rate=2e-5,
        weight_decay=0.01,
        resize_scale=(0.75, 1.5),
        distortion_probability=0.5,
        flip_probability=0,  # a mirrored digit is another sign
        jit_compile=False,
    )
