"""Any of the networks on scikit-learn's handwritten digits: minutes on two cores, no download.

    python recipes/train.py --recipe=digits --variant=MobileViTXXS --data=digits --out=runs/digits

Cost to expect: 3 minutes on two cores for a family's smallest model.
Published result: none; 97.5 to 99.5 % of the test images are to be expected of the smallest models.
"""

from keras_hybrid.training.recipe.recipe import Recipe


def get_recipe(variant: str = "MobileFormer26M") -> Recipe:
    """The recipe for a builder's name."""
    return Recipe(
        model=variant,
        resolution=64,
        epochs=9,
        batch_size=32,
        learning_rate=2e-3,
        warmup_epochs=1,
        final_learning_rate=2e-5,
        weight_decay=0.05,
        label_smoothing=0.1,
        crop_area=(0.7, 1.0),
        crop_aspect=(0.85, 1.18),
        flip_probability=0,  # a mirrored digit is another sign
        crop_fraction=1.0,
    )
