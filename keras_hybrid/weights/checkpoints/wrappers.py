"""What training programs put around a network: prefixes of its names, and weights beside it."""

from collections.abc import Iterable, Mapping

from keras_hybrid.weights.checkpoints.key_maps import KeyMap

MAXIMUM_DEPTH = 4  # so many modules a network may be inside others
EMA_WORDS = ("ema", "averaged_model", "avg_model")


def unwrap(
    state_dict: Mapping[str, object], key_maps: Iterable[KeyMap], prefer_ema: bool = True
) -> tuple[KeyMap, dict[str, object], list[str]] | None:
    """Finds a published network inside a state dict, whatever its names begin with.

    Lightning writes `model.` before each name, DataParallel `module.`, a user's own module what
    the network's attribute is called; beside it may be losses, metrics, other heads.

    Args:
        state_dict: names -> arrays or tensors.
        key_maps: the namings that are looked for.
        prefer_ema: of a network and its moving average side by side, the one to take.

    Returns: the naming, the network's names without their prefix, and the names outside of it;
        None where no prefix gives a known naming.

    Raises:
        ValueError: for several networks side by side.
    """
    found: dict[str, KeyMap] = {}
    for prefix in _prefixes(state_dict):
        if any(prefix.startswith(outer) for outer in found):
            continue
        keys = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
        key_map = next((known for known in key_maps if known.recognizes(keys)), None)
        if key_map:
            found[prefix] = key_map
    if not found:
        return None
    prefix = _chosen(list(found), prefer_ema)
    inside = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    outside = [key for key in state_dict if not key.startswith(tuple(found))]
    return found[prefix], inside, outside


def _prefixes(keys) -> list[str]:
    """The prefixes that modules around a network may give its names, shortest first."""
    prefixes = {""}
    for key in keys:
        modules = key.split(".")[:-1]
        prefixes |= {".".join(modules[:depth]) + "." for depth in range(1, len(modules) + 1)}
    shallow = [prefix for prefix in prefixes if prefix.count(".") <= MAXIMUM_DEPTH]
    return sorted(shallow, key=lambda prefix: (prefix.count("."), prefix))


def _chosen(prefixes, prefer_ema):
    averaged = [prefix for prefix in prefixes if any(word in prefix for word in EMA_WORDS)]
    plain = [prefix for prefix in prefixes if prefix not in averaged]
    first, second = (averaged, plain) if prefer_ema else (plain, averaged)
    wanted = first or second
    if len(wanted) > 1:
        raise ValueError(
            "The checkpoint holds several networks: give the state dict of one, with the names "
            f"that begin with its prefix. Received: networks at {wanted}"
        )
    return wanted[0]
