"""The way from checkpoints of old versions to the current one."""

from typing import Any

from xpnn.saving.versions import Upgrade

DATA_OF_VERSION_2 = {"samples", "batch_size", "shuffle", "batches", "window", "seed", "validation"}


def from_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Optimizers keep the m and v of their papers, and their hyperparameters as attributes.

    Adam and AdamW kept m / (1 - beta1) and v / (1 - beta2), those shares of a new gradient, and the
    sums n1 and n2 of which the corrections are the same multiples.
    """
    upgraded = dict(tree)
    if tree["optimizer"] is not None:
        upgraded["optimizer"] = _with_the_means_of_the_paper(tree["optimizer"])
    described = tree["must_agree"].get("optimizer", {})
    if "hyper" in described:
        kept = {k: one for k, one in described.items() if k not in ("hyper", "slots")}
        described = kept | described["hyper"]
        upgraded["must_agree"] = tree["must_agree"] | {"optimizer": described}
    return upgraded


def _with_the_means_of_the_paper(state: dict[str, Any]) -> dict[str, Any]:
    state = dict(state)
    if {"share1", "n1", "share2", "n2", "m", "v"} <= state.keys():
        for slot, number in (("m", "1"), ("v", "2")):
            share = float(state.pop(f"share{number}"))
            state[slot] = {name: array * share for name, array in state[slot].items()}
            state[f"correction{number}"] = float(state.pop(f"n{number}")) * share
    if "correct2" in state:  # NAdam's
        state["correction2"] = state.pop("correct2")
    return state


def from_version_2(tree: dict[str, Any]) -> dict[str, Any]:
    """Callbacks have names for what they watch, and more of a run has to agree.

    What was not looked at then is not compared now; see ``as_version_2``.
    """
    states = [
        {"kind": kind, "known_by": None, "options": None, "state": state}
        for kind, state in tree["callbacks"]
    ]
    agreed = tree["must_agree"] | {"version": 2}
    run = tree["run"] and {"first_batch": None, **tree["run"]}
    return tree | {"callbacks": states, "must_agree": agreed, "run": run}


def as_version_2(described: dict[str, Any]) -> dict[str, Any]:
    """What must agree as version 2 wrote it: of functions and arrays no more than what they are."""
    found = {key: _plainer(one) for key, one in described.items()}
    if found["data"] is not None:
        found["data"] = {k: one for k, one in found["data"].items() if k in DATA_OF_VERSION_2}
    return {key: one for key, one in found.items() if key not in ("options", "metrics")}


def _plainer(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_plainer, value)]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return f"an array of {value['array']}"
    if "function" in value and "arguments" not in value:  # as those of a partial
        return value["function"]
    hidden = {"repr", "private"} if "kind" in value else set()
    return {key: _plainer(one) for key, one in value.items() if key not in hidden}


UPGRADES: dict[int, Upgrade] = {1: from_version_1, 2: from_version_2}
"""What turns the contents of a checkpoint of one version into those of the next."""
