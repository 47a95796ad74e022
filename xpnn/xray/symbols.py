"""Which of a layer's arrays its equations mean: Z, S, W, b, delta, dL/dW."""

import re

import numpy as np

from xpnn.xray.views import LayerView, StepView

PARAMETERS = {"W": "weight", "b": "bias", "R": "recurrent_weight", "q": "recurrent_bias"}
"""What parameters are called in equations, where that is not their name."""

DERIVATIVE = re.compile(r"dL/d(\w+)")


def symbols_of(
    view: LayerView, step: StepView, equations: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The arrays of a layer by what its equations call them; those that cannot be told are absent.

    Where a layer has an activation, S and delta are on this side of it, as its equations say.

    Args:
        view: of the layer.
        step: in which it is.
        equations: of the layer, forward and backward.
    """
    activation = step.layers.get(f"{view.name}.activation")
    output, delta = view.output, view.delta
    if activation is not None:
        output, delta = activation.inputs[0], activation.passed[0]
    given, made = _names_of_ways(equations)
    found: dict[str, np.ndarray | None] = {**view.kept}
    found["delta"] = delta if isinstance(delta, np.ndarray) else None
    if len(view.inputs) == 1:
        found |= {given: view.inputs[0], f"dL/d{given}": view.passed[0]}
    if isinstance(output, np.ndarray):
        found[made] = output
    for symbol, name in _names_of_parameters(view, equations, given).items():
        found |= {symbol: view.params[name], f"dL/d{symbol}": view.grads.get(name)}
    return {symbol: array for symbol, array in found.items() if array is not None}


def _names_of_ways(equations: tuple[str, ...]) -> tuple[str, str]:
    """What goes in and what comes out: Z and S, or S and Z of activations, or Z and Y."""
    sides = [re.sub(r"\W.*|_.*", "", one.partition(" = ")[0]) for one in equations]
    made = "Y" if "Y" in sides else next((one for one in sides if one in ("S", "Z")), "S")
    return ("S", "Z") if made == "Z" else ("Z", made)


def _names_of_parameters(view: LayerView, equations: tuple[str, ...], given: str) -> dict[str, str]:
    """The names of parameters by their symbols; what is left over on both sides is one thing."""
    derived = {symbol for equation in equations for symbol in DERIVATIVE.findall(equation)}
    derived -= {given, "S"}
    known = {symbol: name for symbol, name in PARAMETERS.items() if name in view.params}
    known |= {name: name for name in view.params if name in derived}
    symbols, names = derived - {*known}, {*view.params} - {*known.values()}
    if len(symbols) == len(names) == 1:
        known[symbols.pop()] = names.pop()
    return known
