"""Networks that tests build once: the same call gives the same network, as it was built."""

import collections

import keras_hybrid

# Six of different structure stand for all sixteen, where a property is no number and no name:
# grouped convolutions and shuffles; three tokens; six tokens; patches; one head, and one with
# twice the blocks.
STRUCTURES = (
    "MobileFormer26M",
    "MobileFormer96M",
    "MobileFormer294M",
    "MobileViTXXS",
    "IFormerT",
    "IFormerM",
)
KEPT = 16

_networks = collections.OrderedDict()


def build_network(name, **options):
    """`keras_hybrid.build_model(name, weights=None, **options)`, kept for the next such call.

    The weights are those that it was first built with; whatever else a test changes of a network
    (compiles it, freezes layers) stays changed. One that must be new is to be built by the test.
    """
    key = name, repr(sorted(options.items()))  # of values alone, 64.0 would pass for 64
    if key in _networks:
        network, weights = _networks[key]
        network.set_weights(weights)
        _networks.move_to_end(key)
        return network
    network = keras_hybrid.build_model(name, weights=None, **options)
    _networks[key] = network, [weight.copy() for weight in network.get_weights()]
    if len(_networks) > KEPT:
        _networks.popitem(last=False)
    return network
