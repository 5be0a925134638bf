"""Mask R-CNN on scenes of handwritten digits: no download, any of the networks as backbone.

    python recipes/train.py --recipe=detect/digit_instances --data=digit_scenes --out=runs/masks

Cost to expect: 30 passes over 800 scenes; --dry_run prints the steps. `epochs=5` for a first look.
Published result: none.

Measured after 10 of 10 epochs, 470 seconds of processor time: mask AP 0.32, AP50 0.46; boxes that
are blind to classes AP 0.57, AP50 0.94. Test digits are on no training card, as of `detect/digits`.

Pyramid and heads are narrower than those of COCO, and fewer regions are looked into.
"""

from keras_hybrid.training.recipe.instances import InstanceRecipe


def get_recipe(variant: str = "MobileFormer26M") -> InstanceRecipe:
    """The recipe for a backbone's builder name."""
    return InstanceRecipe(
        model=variant,
        head_options={
            "channels": 64,
            "box_units": 256,
            "max_proposals": 100,
            "max_detections": 20,
        },
        resolution=128,
        epochs=30,
        batch_size=16,
        learning_rate=1e-3,
        warmup_epochs=2,
        final_learning_rate=1e-5,
        weight_decay=0.01,
        clip_norm=10.0,
        distortion_probability=0.5,
        flip_probability=0,  # a mirrored digit is another sign
        max_objects=8,
        candidates=256,
        regions=64,
        positive_regions=16,
        validation_every=5,
        jit_compile=False,
    )
