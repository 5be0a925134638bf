"""Lists the networks: input, parameters, published accuracy and weights.

keras-hybrid models
keras-hybrid models MobileViTXXS      cost by part of one network
"""

from keras_hybrid.cli.command import DONE


def add_arguments(parser):
    parser.add_argument("model", nargs="?", help="one network, for its cost by part")


def run(options) -> int:
    """Prints the table, or one network's cost."""
    from keras_hybrid.cli.quiet import prepare

    prepare()
    from keras_hybrid.analysis.summary import summarize_cost
    from keras_hybrid.models.catalogue import build_model, list_models
    from keras_hybrid.weights.preprocessing import preprocessing_of
    from keras_hybrid.weights.presets import list_weights

    if options.model:
        model = build_model(options.model, weights=None)
        print(summarize_cost(model))
        return DONE
    presets = list_weights()
    rows = [("model", "input", "parameters", "top-1", "weights")]
    for name in list_models():
        own = [preset for preset in presets if preset.model == name]
        rows.append(
            (
                name,
                f"{preprocessing_of(name).resolution} px",
                f"{min(preset.parameters for preset in own) / 1e6:.1f} M",
                f"{max(preset.score for preset in own):.1f} %",
                ", ".join(preset.tag for preset in own),
            )
        )
    print(aligned(rows))
    return DONE


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Rows as text, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
