"""Semantic FPN on scenes of handwritten digits: no download, any of the networks as backbone.

    python recipes/train.py --recipe=segment/digits --data=digit_scenes --out=runs/scenes

Cost to expect: 60 passes over 800 scenes, 1,200 s of processor time: 12 minutes on two cores that
do nothing else; --dry_run prints the steps. For a first look, `--variant=MobileViTXXS epochs=15`
and 64 px.
Published result: none.

Measured, on 200 test scenes: mIoU of the 11 classes 72.1 %, IoU of the cards 94.1 %; in int8
(`recipes/qat.py`) mIoU 71.9 % calibrated and 71.5 % trained on, 99.6 % of the pixels as Keras says.
On the training crops mIoU is 81.5 % by then and still rises.

Test digits are on no training card, so that mIoU tells how well digits are told apart, and the IoU
of all cards taken as one (in the run's report) how well cards are found.
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
        ema_momentum=0.99,
        validation_every=5,
        resize_scale=(0.75, 1.5),
        distortion_probability=0.5,
        rotation=10,
        flip_probability=0,  # a mirrored digit is another sign
        jit_compile=False,
    )
