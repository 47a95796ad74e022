"""What elementwise activations have in common, and the one that changes nothing."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from xpnn.layers.base import Layer
from xpnn.typing import Array, Namespace, Range


class Activation(Layer):
    """Base of all elementwise activations.

    Forward, for inputs S of any shape::

        Z = f(S)

    Backward, given delta = dL/dZ::

        dL/dS = delta f'(S)

    A new activation writes ``rule`` and ``slope`` and says what ``slope`` reads.

    Attributes:
        reads: "output" if ``slope`` is a formula in Z, "input" if it is one in S.

    >>> class Square(Activation):
    ...     reads = "input"
    ...
    ...     def rule(self, xp, S):
    ...         return S * S
    ...
    ...     def slope(self, xp, S, delta):
    ...         return 2.0 * S * delta
    >>> from xpnn.testing import check_gradients
    >>> check_gradients(Square(), input_shape=(3,)).wrong
    False
    """

    reads: ClassVar[Literal["input", "output"]]

    def rule(self, xp: Namespace, S: Array) -> Array:
        """``f(S)``, as a pure elementwise function."""
        raise NotImplementedError(f"{type(self).__name__} has to define rule")

    def slope(self, xp: Namespace, kept: Array, delta: Array) -> Array:
        """``delta * f'``, from S or Z as ``reads`` says."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope")

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"activate": elementwise(self.rule), "pass_back": elementwise(self.slope)}

    def forward(self, S: Array, training: bool = False) -> Array:
        Z = self.fused["activate"](S)
        self.cache[self.reads] = S if self.reads == "input" else Z
        return Z

    def backward(self, delta: Array) -> Array:
        return self.fused["pass_back"](self.cache[self.reads], delta)


class Identity(Activation):
    """What comes in, as it is.

    Forward, for inputs S of any shape::

        Z = S

    Backward, given delta = dL/dZ::

        dL/dS = delta

    >>> from xpnn import Network
    >>> Network([Identity()], input_shape=(3,)).predict([[-1.0, 0.0, 2.0]]).tolist()
    [[-1.0, 0.0, 2.0]]
    """

    reads = "output"

    def output_range(self, input_range: Range | None) -> Range | None:
        return input_range

    def forward(self, S: Array, training: bool = False) -> Array:
        return S

    def backward(self, delta: Array) -> Array:
        return delta
