"""Lists, fetches and converts published weights.

    keras-hybrid weights                                    what there is, and whether it is here
    keras-hybrid weights MobileViTXS                        of one network
    keras-hybrid weights MobileViTXS/imagenet --fetch       into the cache
    keras-hybrid weights --model=IFormerM --source=iFormer_m_distill.pth --out=m.weights.h5

The last form has every flag of recipes/convert_weights.py.
"""

import sys

from keras_hybrid.cli.command import DONE, UsageError, parse
from keras_hybrid.cli.models import aligned
from keras_hybrid.cli.programs import run_program

PROGRAM = "recipes/convert_weights.py"


def add_arguments(parser):
    parser.add_argument("name", nargs="?", help="a network, or a network and a tag")
    parser.add_argument("--fetch", action="store_true", help="put them into the cache")


def run(arguments: list[str]) -> int:
    """Lists or fetches, or hands over to recipes/convert_weights.py where there is a --source."""
    if any(argument.startswith(("--source", "-source")) for argument in arguments):
        from keras_hybrid.cli.quiet import load_tensorflow

        load_tensorflow()
        return run_program(PROGRAM, arguments, "keras-hybrid weights")
    options = parse("weights", sys.modules[__name__], arguments)
    if options.fetch and not options.name:
        raise UsageError("--fetch needs a name, such as MobileViTXS/imagenet")
    from keras_hybrid.cli.quiet import prepare

    prepare()
    from keras_hybrid.models.catalogue import build_model, builder_family
    from keras_hybrid.tasks.detection.ssdlite import DETECTORS
    from keras_hybrid.tasks.instances.mask_rcnn import MASK_RCNNS
    from keras_hybrid.tasks.segmentation.systems import SYSTEMS, build_system
    from keras_hybrid.weights.presets import find_preset, list_weights
    from keras_hybrid.weights.pretrained.pretrained import cache_folder, converted_file

    detectors = DETECTORS | MASK_RCNNS
    model, _, tag = (options.name or "").partition("/")
    if model and model not in (*SYSTEMS, *detectors):
        builder_family(model)  # refuses unknown names
    if options.fetch and model in (*SYSTEMS, *detectors):
        preset = find_preset(model, tag or list_weights(model)[0].tag)
        if model in detectors:
            detectors[model](weights=preset.tag)
        else:
            build_system(model, preset.tag)
        print(cache_folder(preset))
        return DONE
    if options.fetch:
        preset = find_preset(model, tag or "imagenet")
        heads = {"distillation": True} if preset.distillation else {}
        path = converted_file(preset, lambda: build_model(preset.model, weights=None, **heads))
        print(path)
        return DONE
    presets = [find_preset(model, tag)] if tag else list_weights(model or None)
    rows = [("name", "published", "parameters", "here", "licence", "home")]
    for preset in presets:
        here = any(cache_folder(preset).glob("*.weights.h5"))
        rows.append(
            (
                preset.name,
                f"{preset.score:.1f} % {preset.metric}",
                f"{preset.parameters / 1e6:.1f} M",
                "yes" if here else "no",
                preset.license.partition(" (")[0],
                str(getattr(preset.homes[0], "name", preset.homes[0])),
            )
        )
    print(aligned(rows))
    return DONE
