"""Layers that may end in an activation: ``Dense(64, activation="relu")``."""

from typing import ClassVar, TypeAlias

from xpnn.arguments import by_name
from xpnn.backends import Backend
from xpnn.layers.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.layers.base import Layer
from xpnn.typing import Array, Range, Shape

ACTIVATIONS: dict[str, type[Layer]] = {
    "elu": ELU,
    "gelu": GELU,
    "hard_swish": HardSwish,
    "identity": Identity,
    "leaky_relu": LeakyReLU,
    "linear": Identity,
    "mish": Mish,
    "prelu": PReLU,
    "relu": ReLU,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "softmax": Softmax,
    "softplus": Softplus,
    "swish": SiLU,
    "tanh": Tanh,
}
"""What stands for an activation, with its defaults."""

AnyActivation: TypeAlias = str | type[Layer] | Layer | None
"""An activation as it may be given: by its name, as a class, or as a layer."""


class Activated(Layer):
    """Base of layers that may hand their sums S on to an activation f inside: ``Z' = f(S)``.

    f is a layer of its own, called "activation": ``network["0.dense.activation"]``. The layer
    around it ends ``forward`` in ``self.activated(S)``, and begins ``backward`` with
    ``self.before_activation(delta)``, which turns dL/dZ' into dL/dS.

    Args:
        activation: its name, such as "relu", one of ``ACTIVATIONS``; a class, such as ``ReLU``; or
            a layer, such as ``LeakyReLU(0.1)``; None for the sums themselves.
    """

    fixed: ClassVar[tuple[str, ...]] = ("activation",)

    def __init__(self, activation: AnyActivation = None):
        super().__init__()
        self.activation = as_activation(activation)

    def children(self) -> dict[str, Layer]:
        return {} if self.activation is None else {"activation": self.activation}

    def build(
        self,
        input_shape: Shape,
        backend: Backend,
        *,
        seed: int = 0,
        name: str = "",
        dtype: str = "float32",
    ) -> Shape:
        shape = super().build(input_shape, backend, seed=seed, name=name, dtype=dtype)
        for key, layer in self.children().items():
            full = f"{name}.{key}" if name else key
            layer.build(shape, backend, seed=seed, name=full, dtype=dtype)
        return shape

    def output_range(self, input_range: Range | None) -> Range | None:
        sums = super().output_range(input_range)
        return sums if self.activation is None else self.activation.output_range(sums)

    def activated(self, S: Array, training: bool = False) -> Array:
        """``f(S)``, or S where there is no activation."""
        return S if self.activation is None else self.activation.forward(S, training)

    def before_activation(self, delta: Array) -> Array:
        """dL/dS, from dL/d(output)."""
        if self.activation is None:
            return delta
        back: Array = self.activation.backward(delta)
        if self.in_step:
            self.activation.forget()
        return back

    def with_activation(self, text: str) -> str:
        """``repr`` of a layer, given that of one without activation."""
        return text if self.activation is None else f"{text[:-1]}, activation={self.activation!r})"


def as_activation(given: AnyActivation) -> Layer | None:
    """A layer that is given by its name, as a class, or itself.

    Raises:
        ValueError: there is no activation of that name.
        TypeError: it is no activation.

    >>> as_activation("relu"), as_activation(LeakyReLU), as_activation(LeakyReLU(0.1))
    (ReLU(), LeakyReLU(0.01), LeakyReLU(0.1))
    """
    if given is None:
        return None
    if isinstance(given, str):
        return by_name(given, ACTIVATIONS, "activation")()
    kinds = Activation, PReLU, Softmax
    if isinstance(given, type) and issubclass(given, kinds):
        return given()
    if isinstance(given, kinds):
        return given
    raise TypeError(
        f"wanted activation to be a name such as 'relu', or a layer such as LeakyReLU(0.1), got "
        f"{given!r}; put other layers behind this one"
    )
