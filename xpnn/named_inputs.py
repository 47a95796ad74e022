"""What goes into a network and comes out of it: by name or in order, as its backend wants it."""

from collections.abc import Sequence
from typing import Any

from xpnn.arguments import check_input_shape, in_order, same_rows
from xpnn.backends.advice import reword, rewording
from xpnn.errors import ShapeError, XpnnError
from xpnn.layers import Graph
from xpnn.layers.embedding import as_ids
from xpnn.layers.nodes import Kind, is_several
from xpnn.named_values import NamedValues
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Shape, Shapes


class NamedInputs(NamedValues):
    """The part of a network that knows its inputs and its outputs by name."""

    output_shape: Any

    samples: int | None = None
    """How many there were in the last call of ``forward``; None before it."""

    @property
    def inputs(self) -> tuple[tuple[Shape, Kind, str], ...]:
        """The shape of each input, whether it takes floats or integers, and its name."""
        root = self.root
        if isinstance(root, Graph):
            return root.inputs
        takes: Any = root.takes
        return ((self.input_shape, takes, "x"),)

    @property
    def outputs(self) -> tuple[tuple[Shape, str], ...]:
        """The shape of each output, and its name."""
        shape: Shapes = self.output_shape
        return tuple(zip(shape if is_several(shape) else (shape,), self.output_names, strict=True))

    @property
    def output_names(self) -> tuple[str, ...]:
        """By which outputs are given and asked for, where there are several."""
        return self.root.output_names if isinstance(self.root, Graph) else ("output_0",)

    def asarray(self, x: Any) -> Arrays:
        """A batch of inputs, of any library, as this network's backend and dtype want it.

        Integers that are looked up, such as an embedding's ids, stay integers. Of a graph with
        several inputs, a tuple of arrays; given as a tuple, or as a dict by name.

        Raises:
            ShapeError: ``x`` is not of shape (batch, *input_shape); inputs are of different
                lengths.
            DataError: ``x`` holds floats, but the first layer takes integers; an input is missing.
            DeviceError: ``x`` is of the network's library, but on another device.
        """
        given = self.inputs_in_order(x)
        taken = [self.as_input(one, number) for number, one in enumerate(given)]
        if len(taken) > 1:
            self.count_rows(taken)
        return one_or_tuple(taken)

    def count_rows(self, inputs: Sequence[Any]) -> int:
        """Of how many samples all inputs are; raises ShapeError where they differ."""
        return same_rows(
            **{f"x[{name!r}]": one for (*_, name), one in zip(self.inputs, inputs, strict=True)}
        )

    def inputs_in_order(self, x: Any) -> tuple[Any, ...]:
        """The inputs in their order, which may have come by name; a tuple even if there is one."""
        return in_order(x, [name for _, _, name in self.inputs], "x")

    def as_input(self, x: Any, number: int) -> Array:
        """What ``asarray`` makes for the input of that number."""
        shape, takes, name = self.inputs[number]
        try:
            inputs = self.backend.asarray(x)
            check_input_shape(tuple(inputs.shape), shape)
            if takes == "integers":
                with self.backend.on_device():
                    return as_ids(inputs, self.backend)
            return self.backend.asarray(inputs, self.dtype)
        except XpnnError as error:
            reword(error, x=x)
            if len(self.inputs) > 1:
                raise type(error)(f"input {name!r}: {error}") from error
            raise

    def admit(self, x: Any) -> Array:
        """``asarray``, and a look at the values, once for a whole data set; waits for the device.

        Raises:
            ShapeError: ``x`` is not of shape (batch, *input_shape).
            DataError: the first layer cannot use the values; ids out of range, for one.
            XpnnError: a layer does not know yet what it goes by.
        """
        x = self.asarray(x)
        with self.backend.on_device():
            self.check_ready()
            self.root.check_inputs(x)
        return x

    def as_deltas(self, delta: Any) -> Any:
        """dL/d(output) of each output, of any library, as this network's backend and dtype want it.

        Raises:
            ShapeError, DataError: see ``Network.backward``.
        """
        names, several = self.output_names, len(self.output_names) > 1
        given = in_order(delta, names, "delta")
        whose = [f"delta[{name!r}]" for name in names] if several else ["delta"]
        taken = [
            None if several and one is None else self._as_delta(name, one, shape)
            for name, one, (shape, _) in zip(whose, given, self.outputs, strict=True)
        ]
        return one_or_tuple(taken)

    def _as_delta(self, name: str, values: Any, shape: Shape) -> Array:
        with rewording(**{name: values}):
            delta = self.backend.asarray(values, self.dtype)
        came = tuple(delta.shape)
        if came[1:] != shape or not came or self.samples not in (None, came[0]):
            batch = "batch" if self.samples is None else self.samples
            wanted = ", ".join(map(str, (batch, *shape))) + "," * (not shape)
            raise ShapeError(
                f"wanted {name} of the shape of the outputs, ({wanted}), got {came}; give "
                f"the delta of the last forward"
            )
        return delta

    def outputs_by_name(self, outputs: Arrays) -> Any:
        """Outputs by name, where the graph was given names for them."""
        if not (isinstance(self.root, Graph) and isinstance(self.root.outputs, dict)):
            return outputs
        return dict(zip(self.output_names, as_tuple(outputs), strict=True))
