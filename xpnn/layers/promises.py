"""What layers promise, held against what they do.

A layer that says one shape and gives another, or writes no gradient, would train wrongly and not
fail. So a step is watched while it is written out, or taken for the first time. Only shapes and
names are looked at: nothing waits for a device, and a compiler may be looking on.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from xpnn.errors import ShapeError, XpnnError
from xpnn.layers.base import Layer
from xpnn.layers.nodes import is_several
from xpnn.layers.shadowing import shadowed
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Shape, Shapes


@contextmanager
def outputs_watched(root: Layer) -> Iterator[None]:
    """Inside, outputs have to be of the shape that ``output_shape`` says, at ``root`` and below.

    Raises:
        ShapeError: one is not.
        XpnnError: one is no array.
    """
    watches = [_Watch(name, layer) for name, layer in root.walk()]
    with shadowed((one.layer, "forward", one.forward) for one in watches):
        yield


@contextmanager
def promises_watched(root: Layer, trainable: Collection[str]) -> Iterator[None]:
    """Inside, forward and backward run once, and all that layers promise of them has to hold.

    Args:
        root: of the layers.
        trainable: the full names of the parameters that have to get a gradient.

    Raises:
        ShapeError: an output, a gradient, or what backward returns has another shape.
        XpnnError: a gradient is missing or has another name than its parameter; or a layer has
            added parameters or state on its way, or taken some away.
    """
    watches = [_Watch(name, layer) for name, layer in root.walk()]
    there = [(one.layer, "forward", one.forward) for one in watches]
    back = [(one.layer, "backward", one.backward) for one in watches]
    with shadowed([*there, *back]):
        yield
    for watch in watches:
        watch.check_names()
        watch.check_written()
    dead_ends = [watch.title for watch in watches if watch.returned_none]
    for watch in watches:
        watch.check_complete(trainable, dead_ends)


class _Watch:
    """One layer, and what was seen of it."""

    def __init__(self, name: str, layer: Layer):
        self.prefix, self.layer = f"{name}." if name else "", layer
        self.title = f"layer {name} ({layer!r})" if name else repr(layer)
        self.run_forward, self.run_backward = layer.forward, layer.backward
        self.names = {"params": set(layer.params), "state": set(layer.state)}
        self.input_shapes: list[list[Shape]] = []  # of each call, those of its inputs
        self.returned_none, self.was_reached = False, False

    def forward(self, Z: Arrays, *rest: Any, **named: Any) -> Arrays:
        """That of the layer, whose output is looked at."""
        S = self.run_forward(Z, *rest, **named)
        inputs, outputs = as_tuple(Z), as_tuple(S)
        shapes = [tuple(one.shape) for one in inputs]
        given = [shape[1:] for shape in shapes]
        of_inputs: Shapes = tuple(given) if isinstance(Z, tuple) else given[0]
        wanted: Shapes = self.layer.output_shape(of_inputs)
        for made in outputs:
            if not hasattr(made, "shape"):
                raise XpnnError(
                    f"forward of {self.title} returned {S!r}; return the array of outputs"
                )
        found = [tuple(made.shape) for made in outputs]
        batch, each = shapes[0][0], wanted if is_several(wanted) else (wanted,)
        if found != [(batch, *shape) for shape in each]:
            raise ShapeError(
                f"output_shape of {self.title} says {wanted} for inputs of shape "
                f"{one_or_tuple(given)}, but forward makes {one_or_tuple(found)} of "
                f"{one_or_tuple(shapes)}, where the batch comes first; let the two agree"
            )
        self.input_shapes.append(shapes)
        return S

    def backward(self, delta: Arrays, *rest: Any, **named: Any) -> Arrays | None:
        """That of the layer, whose dL/d(input) is looked at."""
        self.was_reached = True
        back = self.run_backward(delta, *rest, **named)
        if back is None:
            may_be_none = self.layer.takes == "integers" or not self.layer.passes_back
            self.returned_none = not may_be_none and not self.layer.children()
        elif not any(self._fits(as_tuple(back), shapes) for shapes in self.input_shapes):
            found = [tuple(getattr(one, "shape", ())) for one in as_tuple(back)]
            raise ShapeError(
                f"backward of {self.title} returned an array of shape {one_or_tuple(found)}, but "
                f"its inputs were of {self.input_shapes[-1:]}; return dL/d(input)"
            )
        return back

    def _fits(self, back: tuple[Array | None, ...], shapes: list[Shape]) -> bool:
        """Whether these are deltas for inputs of those shapes."""
        return len(back) == len(shapes) and all(
            one is None or tuple(one.shape) == shape
            for one, shape in zip(back, shapes, strict=True)
        )

    def check_names(self) -> None:
        """Whether parameters and state are those that the layer was built with."""
        for kind, names in self.names.items():
            own = getattr(self.layer, kind)
            if changed := names ^ own.keys():
                for name in changed & own.keys():
                    del own[name]
                raise XpnnError(
                    f"{self.title} has added {', '.join(sorted(changed))} to its {kind} on the "
                    f"way, or taken it away, which no step would keep; let init_{kind} return all "
                    f"there is"
                )

    def check_written(self) -> None:
        """Whether the gradients that there are belong to parameters, and have their shapes."""
        wanted = {key: tuple(w.shape) for key, w in self.layer.params.items()}
        wanted |= {key: tuple(one.params[key].shape) for key, one in self.layer.ties.items()}
        for key, grad in self.layer.grads.items():
            if key not in wanted:
                raise XpnnError(
                    f"backward of {self.title} wrote grads[{key!r}], but its parameters are called "
                    f"{', '.join(map(repr, wanted)) or 'nothing'}; use the same names"
                )
            found = tuple(getattr(grad, "shape", ()))
            if found != wanted[key]:
                raise ShapeError(
                    f"backward of {self.title} wrote grads[{key!r}] of shape {found}, but the "
                    f"parameter has {wanted[key]}; add up what was spread out, as over the batch"
                )

    def check_complete(self, trainable: Collection[str], dead_ends: list[str]) -> None:
        """Whether there is a gradient for each parameter that is trained."""
        grads = self.layer.grads
        missing = [k for k in self.layer.params if self.prefix + k in trainable and k not in grads]
        if missing and dead_ends:
            raise XpnnError(
                f"backward of {dead_ends[-1]} returned None, so {self.title} learns nothing; "
                f"return dL/d(input)"
            )
        if missing and not self.was_reached:
            name = self.prefix.rstrip(".")
            raise XpnnError(
                f"nothing came back to {self.title}, as no loss reads what is made of its outputs, "
                f"or the layer around it does not call its backward; leave it out of the network, "
                f"or keep it as it is: network.freeze({name!r})"
            )
        if missing:
            raise XpnnError(
                f"there is no gradient for {missing[0]!r} of {self.title}; let its backward write "
                f"self.grads[{missing[0]!r}], or freeze it with trainable = False"
            )
