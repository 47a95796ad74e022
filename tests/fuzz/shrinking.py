"""Smaller expressions than a list of layers that is given as source text."""

import ast
import itertools


def smaller_codes(code):
    """Expressions with a layer, call or output less, a container opened, an argument left out."""
    tree = ast.parse(code, mode="eval")
    changes = (_bypassed, _without, _opened, _defaulted)
    for node, change in itertools.product(list(ast.walk(tree)), changes):
        for _ in change(node):  # which changes it for the moment
            yield ast.unparse(tree)


def _without(node):
    """A list with one entry less."""
    if isinstance(node, ast.List):
        for k in range(len(node.elts)):
            entries = node.elts
            node.elts = [*entries[:k], *entries[k + 1 :]]
            yield
            node.elts = entries


def _opened(node):
    """A list with what lies in one of its entries in place of it."""
    if isinstance(node, ast.List):
        for k, entry in enumerate(node.elts):
            inside = entry.args[0] if isinstance(entry, ast.Call) and entry.args else None
            entries = node.elts
            if isinstance(inside, ast.List):
                node.elts = [*entries[:k], *inside.elts, *entries[k + 1 :]]
            elif isinstance(inside, ast.Call):
                node.elts = [*entries[:k], inside, *entries[k + 1 :]]
            else:
                continue
            yield
            node.elts = entries


def _defaulted(node):
    """A call with one named argument less."""
    if isinstance(node, ast.Call):
        for k in range(len(node.keywords)):
            keywords = node.keywords
            node.keywords = [*keywords[:k], *keywords[k + 1 :]]
            yield
            node.keywords = keywords


def _bypassed(node):
    """A graph with one output less, or one call less: what read it reads what it read first."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Graph"):
        return
    layers, kept = node.args[0].elts, node.args
    inputs, calls, outputs = map(ast.literal_eval, kept[1:])
    ends = outputs if isinstance(outputs, tuple) else (outputs,)
    makes = [_outputs_of(layers[layer]) for layer, _ in calls]
    for k in range(len(ends) if len(ends) > 1 else 0):
        node.args = _graph(layers, inputs, calls, makes, (*ends[:k], *ends[k + 1 :]))
        yield
    made = len(inputs)
    for k, (_, sources) in enumerate(calls):
        past = {v: sources[0] for v in range(made, made + makes[k])}
        others = [v for v in range(len(inputs) + sum(makes)) if v not in past]
        place = {v: new for new, v in enumerate(others)}
        place |= {v: place[source] for v, source in past.items()}
        fewer = [(layer, tuple(place[v] for v in own)) for layer, own in calls[:k] + calls[k + 1 :]]
        left = dict.fromkeys(place[v] for v in ends)
        node.args = _graph(layers, inputs, fewer, makes[:k] + makes[k + 1 :], tuple(left))
        yield
        made += makes[k]
    node.args = kept


def _outputs_of(layer):
    is_graph = isinstance(layer, ast.Call) and ast.unparse(layer.func) == "Graph"
    outputs = ast.literal_eval(layer.args[3]) if is_graph else 0
    return len(outputs) if isinstance(outputs, tuple) else 1


def _graph(layers, inputs, calls, makes, ends):
    """The arguments of a graph."""
    kept, calls, ends = needed(len(inputs), calls, makes, ends)
    numbers = [inputs, calls, ends[0] if len(ends) == 1 else ends]
    inside = ast.List([layers[k] for k in kept])
    return [inside, *(ast.parse(repr(one), mode="eval").body for one in numbers)]


def needed(inputs, calls, makes, ends):
    """The layers that it takes to make values, and calls and values in the numbers of what is left.

    Args:
        inputs: how many there are.
        calls: (number of the layer, numbers of the values that it reads) of each.
        makes: how many values each call makes.
        ends: the numbers of the values.
    """
    starts = [inputs + sum(makes[:k]) for k in range(len(makes))]
    results = [range(start, start + count) for start, count in zip(starts, makes, strict=True)]
    wanted = set(ends)
    for (_, sources), made in zip(reversed(calls), reversed(results), strict=True):
        wanted |= set(sources) if wanted.intersection(made) else set()
    place, layers, left = {k: k for k in range(inputs)}, {}, []
    for (layer, sources), made in zip(calls, results, strict=True):
        if wanted.intersection(made):
            number = layers.setdefault(layer, len(layers))
            left.append((number, tuple(place[k] for k in sources)))
            place |= {k: len(place) + n for n, k in enumerate(made)}
    return list(layers), left, tuple(place[k] for k in ends)
