"""A loss for each output of a network that is a graph."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from xpnn.arguments import Unchanging, in_order
from xpnn.errors import DataError
from xpnn.typing import Loss


class ByOutput(Unchanging):
    """The weighted sum of a loss for each output: ``value = sum_k c_k l_k``.

    Histories list the sum as "loss", and each ``l_k`` as "price_loss", say, by the name of its
    output.

    Args:
        losses: by the names of the outputs; or one after another, in their order.
        weights: c_k likewise; 1 where none is given.

    Raises:
        TypeError, ValueError: a loss is no function; a weight is no number of at least 0, or that
            of no loss.

    >>> from xpnn import cross_entropy, mean_squared_error
    >>> ByOutput({"price": mean_squared_error, "kind": cross_entropy}, {"price": 0.5})
    ByOutput({'price': mean_squared_error, 'kind': cross_entropy}, {'price': 0.5})
    """

    def __init__(
        self,
        losses: Mapping[str, Loss] | Sequence[Loss],
        weights: Mapping[Any, float] | Sequence[float] | None = None,
    ):
        if not isinstance(losses, Mapping | list | tuple) or not losses:
            raise TypeError(f"wanted losses by the names of outputs, or a list, got {losses!r}")
        for loss in losses.values() if isinstance(losses, Mapping) else losses:
            if not callable(loss):
                raise TypeError(f"wanted a loss for each output, got {loss!r}")
        self.losses = dict(losses) if isinstance(losses, Mapping) else tuple(losses)
        keys = self._keys()
        if weights is None:
            weights = {}
        elif not isinstance(weights, Mapping):
            given = tuple(weights)
            alone = len(given) == len(keys) == 1  # else a tuple would be taken for the one thing
            ordered = given if alone else in_order(given, keys, "loss weights")
            weights = dict(zip(keys, ordered, strict=True))
        if unknown := [key for key in weights if key not in keys]:
            raise ValueError(
                f"there is no loss for {', '.join(map(repr, unknown))}, which has a weight; there "
                f"are {', '.join(map(repr, keys))}"
            )
        self.weights = tuple(_weight(weights.get(key, 1.0)) for key in keys)

    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        raise TypeError("ByOutput is for a Trainer; call each of its losses by itself")

    def __repr__(self) -> str:
        names = [getattr(getattr(x, "func", x), "__name__", repr(x)) for x in self.functions]
        weights = {k: c for k, c in zip(self._keys(), self.weights, strict=True) if c != 1.0}
        if isinstance(self.losses, dict):
            inside = ", ".join(f"{k!r}: {v}" for k, v in zip(self.losses, names, strict=True))
            return f"ByOutput({{{inside}}}{f', {weights}' if weights else ''})"
        return f"ByOutput([{', '.join(names)}]{f', {list(self.weights)}' if weights else ''})"

    def _keys(self) -> list[Any]:
        """The names, or numbers, of the outputs."""
        return list(self.losses) if isinstance(self.losses, dict) else list(range(len(self.losses)))

    @property
    def functions(self) -> list[Loss]:
        """The losses, in the order in which they were given."""
        return list(self.losses.values() if isinstance(self.losses, dict) else self.losses)

    def of_outputs(self, names: Sequence[str]) -> tuple["LossOfOutput", ...]:
        """The losses in the order of outputs of these names, each with its weight.

        Raises:
            DataError: an output has no loss, or a loss no output.
        """
        pairs = list(zip(self.functions, self.weights, strict=True))
        given = (
            dict(zip(self.losses, pairs, strict=True)) if isinstance(self.losses, dict) else pairs
        )
        if len(names) == 1 and len(pairs) > 1:
            raise DataError(f"wanted a loss for the only output, {names[0]}, got {len(pairs)}")
        several = len(names) > 1 or isinstance(given, dict)
        found = in_order(given, names, "a loss for each output") if several else pairs
        return tuple(LossOfOutput(name, *of) for name, of in zip(names, found, strict=True))


class LossOfOutput(NamedTuple):
    """The loss of an output, and what it is multiplied by in the sum."""

    output: str
    loss: Loss
    weight: float


def losses_of(loss: Loss | ByOutput, names: Sequence[str]) -> tuple[LossOfOutput, ...]:
    """The loss of each output.

    Raises:
        DataError: there are several outputs, and not a loss for each.
    """
    if isinstance(loss, ByOutput):
        return loss.of_outputs(names)
    if len(names) > 1:
        return ByOutput([loss]).of_outputs(names)  # which says what is wanted
    return (LossOfOutput(names[0], loss, 1.0),)


def _weight(value: Any) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value < float("inf")
    ):
        raise ValueError(f"a loss weighs a finite number of at least 0, got {value!r}")
    return float(value)
