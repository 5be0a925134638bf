"""RetinaNet on scenes of handwritten digits: no download, any of the networks as backbone.

    python recipes/train.py --recipe=detect/digits --data=digit_scenes --out=runs/detected

Cost to expect: 60 passes over 800 scenes; --dry_run prints the steps. `epochs=10` for a first look.
Published result: none.

Measured on two cores, in 17 minutes beside other work: AP 0.583 and AP50 0.705 with classes, 0.784
and 0.980 blind to them, on 200 scenes of digits that no training card shows. In int8, by
`recipes/qat.py` with its own numbers: AP 0.580 calibrated, 0.580 after three epochs.

Test digits are on no training card, so that AP tells how well digits are told apart, and AP50 that
is blind to classes (in the run's report) how well cards are found. SSDLite (`head=ssdlite`) is for
larger images: of 128 px its maps have 8 x 8 cells and fewer, and it learns far more slowly.
"""

from keras_hybrid.training.recipe.detection import DetectionRecipe


def get_recipe(variant: str = "MobileFormer26M") -> DetectionRecipe:
    """The recipe for a backbone's builder name."""
    return DetectionRecipe(
        model=variant,
        head="retinanet",
        head_options={"channels": 64},
        resolution=128,
        epochs=60,
        batch_size=16,
        learning_rate=1e-3,
        warmup_epochs=2,
        final_learning_rate=1e-5,
        weight_decay=0.01,
        clip_norm=1.0,
        ema_momentum=0.998,
        crops=True,
        distortion_probability=0.5,
        flip_probability=0,  # a mirrored digit is another sign
        max_objects=8,
        validation_every=5,
        jit_compile=False,
    )
