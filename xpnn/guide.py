"""The guide's linked layers: each knows the layer above it, and each delta can be looked at.

::

    from xpnn.guide import HiddenLayer, InputLayer, OutputLayer

    i = InputLayer(X, backend="numpy")
    h = HiddenLayer(4, upper_layer=i)
    o = OutputLayer(1, upper_layer=h, learning_rate=1.0)

    h.feedforward(); o.feedforward(); o.backprop(y)     # then o.delta, o.harp_w, h.delta, h.z ...

Data come in at the top and flow down, so the *upper* layer is the one nearer the input. With u for
the upper layer, l for the lower one, and a batch of mu samples, a layer computes::

    S      = u.z W + b                                feedforward
    z      = f(S)

    delta  = (z - y) f'(S)                            backprop, in the output layer
    delta  = (l.delta l.W^T) f'(S)                    backprop, in a hidden layer
    harp_w = u.z^T delta
    harp_b = sum of delta over the batch
    W     <- W - learning_rate / mu harp_w
    b     <- b - learning_rate / mu harp_b

which is gradient descent on the quadratic cost ``1/(2 mu) sum |z - y|^2``. The words are the
guide's ("harp" is its name for the gradient, after the nabla sign); the math is that of ``Dense``
and of the activations. Where the guide's own text goes wrong, ``docs/guide.md`` says so.
"""

from numbers import Real
from typing import Any

from xpnn.backends import Backend, get_backend
from xpnn.backends.advice import rewording
from xpnn.errors import Change, DataError, ShapeError, XpnnError
from xpnn.layers import Dense, Layer, Sigmoid, Softmax
from xpnn.network import FLOATS
from xpnn.typing import Array, Namespace


class InputLayer:
    """The data, as a layer: it has a ``z``, as all layers have, and computes nothing.

    Assign the next minibatch to ``z``; its number of samples is free.

    Args:
        X: one batch, (batch, features), of any array library, or nested lists.
        backend: where the net computes, for this layer and all below it; see ``get_backend``.
        seed: of the starting weights of all layers below it.
        dtype: of all that is computed.

    Attributes:
        units: the number of features.
        next_layer: the layer below, None where there is none yet.

    >>> i = InputLayer([[0.0, 1.0], [1.0, 0.0]])
    >>> i.units, i.z.shape
    (2, (2, 2))
    """

    number = 0
    next_layer: "LinkedLayer | None" = None

    def __init__(
        self, X: Any, backend: str | Backend = "numpy", *, seed: int = 0, dtype: str = "float32"
    ):
        if dtype not in FLOATS:
            raise ValueError(f"dtype is one of {', '.join(FLOATS)}, got {dtype!r}")
        self.backend = get_backend(backend)
        self.seed, self.dtype, self.units = seed, dtype, 0
        self.z = X

    @property
    def z(self) -> Array:
        """The batch, on the net's backend."""
        return self._z

    @z.setter
    def z(self, X: Any) -> None:
        with rewording(X=X):
            z = self.backend.copied(X, self.dtype)
            wanted = f"wanted an input of shape (batch, {self.units or 'features'})"
            if z.ndim == 1 and z.shape[0] and self.units in (0, z.shape[0]):
                raise ShapeError(
                    f"{wanted}, got {tuple(z.shape)}, a single sample",
                    change=Change("X", "{array}[None, :]"),
                )
            if z.ndim != 2 or 0 in z.shape or self.units not in (0, z.shape[1]):
                raise ShapeError(
                    f"{wanted}, got {tuple(z.shape)}; data of another width need another net"
                )
        _check_finite(z, "the input", self.backend)
        self._z, self.units = z, z.shape[1]

    def __repr__(self) -> str:
        return f"InputLayer({self._z.shape[0]} samples of {self.units} features)"


class LinkedLayer:
    """What hidden and output layers share: a Dense, an activation and a link to the layer above.

    Args:
        units: number of outputs.
        upper_layer: the layer nearer the input; also called ``previous_layer``.
        activation: f, as a class or as an object: Sigmoid, ReLU, LeakyReLU(0.1), Softmax, ...
        learning_rate: eta, 1 unless given; a hidden layer without one uses the output layer's.
        seed: of the starting weights; left out, that of the upper layer. A net of one seed starts
            like ``Network([Dense, activation, Dense, activation, ...], seed=seed)``.

    Attributes:
        S: weighted sum, (batch, units); None before ``feedforward``.
        z: activation, (batch, units); None before ``feedforward``.
        delta: dC/dS of each sample, (batch, units); None before ``backprop``.
        dense, activation: the framework's layers that do the math.
        next_layer: the layer nearer the output, None where there is none yet.

    >>> from xpnn.guide import HiddenLayer, InputLayer
    >>> i = InputLayer([[0.0, 1.0]])
    >>> h = HiddenLayer(4, upper_layer=i)
    >>> h.feedforward()
    >>> h.z.shape, h.upper_layer is i
    ((1, 4), True)
    """

    S: Array = None
    z: Array = None
    delta: Array = None
    number: int  # counted from the input
    next_layer: "LinkedLayer | None" = None
    backend: Backend
    seed: int
    dtype: str

    def __init__(
        self,
        units: int,
        upper_layer: "InputLayer | HiddenLayer",
        activation: type[Layer] | Layer = Sigmoid,
        *,
        learning_rate: float | None = None,
        seed: int | None = None,
    ):
        if not isinstance(upper_layer, InputLayer | HiddenLayer):
            raise TypeError(
                f"upper_layer is the layer nearer the input, an InputLayer or a HiddenLayer, got "
                f"{upper_layer!r}"
            )
        self.dense, self.activation = Dense(units), _as_activation(activation, units)
        self.learning_rate = learning_rate
        self.units, self.number = units, upper_layer.number + 1
        self.upper_layer = self.previous_layer = upper_layer
        self.backend, self.dtype = upper_layer.backend, upper_layer.dtype
        self.seed = upper_layer.seed if seed is None else seed
        self._fed_with: tuple[Array, ...] = (None, None, None)
        self._descend = self.backend.elementwise(_descend)
        self._build()
        upper_layer.next_layer = self

    def _build(self) -> None:
        """Give both layers their arrays, under the names that they would have in a Network."""
        layers = (self.dense, (self.upper_layer.units,)), (self.activation, (self.units,))
        for index, (layer, shape) in enumerate(layers, start=2 * (self.number - 1)):
            name = f"{index}.{type(layer).__name__.lower()}"
            layer.build(shape, self.backend, seed=self.seed, name=name, dtype=self.dtype)
        self.dense.passes_back = self.number > 1  # nobody reads the gradient of the data

    @property
    def weights(self) -> Array:
        """W, (units of the upper layer, units). May be set."""
        return self.dense.params["weight"]

    @weights.setter
    def weights(self, values: Any) -> None:
        self.dense.params["weight"] = self._like(self.weights, values, "weights")

    @property
    def bias(self) -> Array:
        """b, (units,). May be set."""
        return self.dense.params["bias"]

    @bias.setter
    def bias(self, values: Any) -> None:
        self.dense.params["bias"] = self._like(self.bias, values, "bias")

    @property
    def harp_w(self) -> Array:
        """The gradient of the weights, summed over the batch; None before ``backprop``."""
        return self.dense.grads.get("weight")

    @property
    def harp_b(self) -> Array:
        """The gradient of the bias, summed over the batch; None before ``backprop``."""
        return self.dense.grads.get("bias")

    @property
    def learning_rate(self) -> float:
        """eta: this layer's own, or else the output layer's, or else 1."""
        layer: LinkedLayer | None = self
        if self._own_rate is None:
            while layer is not None and not isinstance(layer, OutputLayer):
                layer = layer.next_layer
        return 1.0 if layer is None or layer._own_rate is None else layer._own_rate

    @learning_rate.setter
    def learning_rate(self, rate: float | None) -> None:
        if rate is not None and not (isinstance(rate, Real) and 0 <= rate < float("inf")):
            raise ValueError(f"learning_rate is a number of at least 0, got {rate!r}")
        self._own_rate = None if rate is None else float(rate)

    def feedforward(self) -> None:
        """Compute ``S`` and ``z`` from the upper layer's z.

        Raises:
            XpnnError: the upper layer has not been fed forward since its input or weights changed.
        """
        _check_fed(self.upper_layer)
        with self.backend.on_device():
            self.S = self.dense.forward(self.upper_layer.z, training=True)
            self.z = self.activation.forward(self.S, training=True)
        self._fed_with = self._sources()

    def _sources(self) -> tuple[Array, ...]:
        """What S is made of; arrays are replaced and never written to, so identity tells."""
        return self.upper_layer.z, self.weights, self.bias

    def _pass_up(self, error: Array) -> Array:
        """From dC/dz of this layer to dC/dz of the upper one; keeps delta and the gradients."""
        self.delta = self.activation.backward(error)
        return self.dense.backward(self.delta)

    def _update(self, rate: float) -> None:
        """Go down the gradient, at this layer's own learning rate or else at ``rate``."""
        step = (rate if self._own_rate is None else self._own_rate) / self.delta.shape[0]
        self.weights = self._descend(self.weights, self.harp_w, step)
        self.bias = self._descend(self.bias, self.harp_b, step)

    def _like(self, own: Array, values: Any, what: str) -> Array:
        values = self.backend.copied(values, self.dtype)
        if values.shape != own.shape:
            raise ShapeError(
                f"the {what} of {self!r} have the shape {tuple(own.shape)}, got "
                f"{tuple(values.shape)}; nothing was changed"
            )
        return values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.units}, activation={self.activation!r})"


class HiddenLayer(LinkedLayer):
    """A layer between the input and the output; its attributes are ``LinkedLayer``'s.

    Args:
        units, upper_layer, activation, learning_rate, seed: as for ``LinkedLayer``.

    >>> from xpnn.guide import InputLayer, OutputLayer
    >>> h = HiddenLayer(4, upper_layer=InputLayer([[0.0, 1.0]]))
    >>> o = OutputLayer(1, upper_layer=h, learning_rate=1.0)
    >>> h.feedforward(); o.feedforward(); o.backprop([[1.0]])
    >>> h.delta.shape
    (1, 4)
    """


class OutputLayer(LinkedLayer):
    """The last layer, whose z is the prediction; its attributes are ``LinkedLayer``'s.

    Args:
        units, upper_layer, activation, learning_rate, seed: as for ``LinkedLayer``.

    >>> from xpnn.guide import InputLayer
    >>> o = OutputLayer(1, upper_layer=InputLayer([[0.0, 1.0], [1.0, 0.0]]))
    >>> o.feedforward()
    >>> o.z.shape
    (2, 1)
    """

    def backprop(self, y: Any) -> None:
        """Send the error up through all layers, then update all of them.

        Every delta is computed with the weights that made the prediction; only then do the weights
        change. A call that raises has changed nothing.

        Args:
            y: the true values, of the shape of ``z``, of any array library.

        Raises:
            XpnnError: a layer has not been fed forward since its input or weights changed.
            ShapeError, DataError: ``y`` does not fit, or is not finite.
        """
        path = _check_fed(self)
        y = self._targets(y)
        with self.backend.on_device():
            error = self.z - y
            for layer in path:
                error = layer._pass_up(error)
            for layer in path:
                layer._update(self.learning_rate)

    def _targets(self, y: Any) -> Array:
        with rewording(y=y):
            targets = self.backend.asarray(y, self.dtype)
            if targets.shape != self.z.shape:
                column = (*targets.shape, 1) == tuple(self.z.shape)
                raise ShapeError(
                    f"wanted y of the shape of the prediction, {tuple(self.z.shape)}, got "
                    f"{tuple(targets.shape)}",
                    change=Change("y", "{array}[:, None]") if column else None,
                )
        _check_finite(targets, "y", self.backend)
        return targets


def _descend(xp: Namespace, param: Array, harp: Array, step: float) -> Array:
    return param - step * harp


def _check_fed(layer: InputLayer | LinkedLayer) -> list[LinkedLayer]:
    """All layers from this one up; refuses a z of an earlier input or of weights since changed."""
    path = []
    while isinstance(layer, LinkedLayer):
        pairs = zip(layer._fed_with, layer._sources(), strict=True)
        if any(then is not now for then, now in pairs):
            raise XpnnError(
                f"{layer!r}, layer number {layer.number} from the input, has no z for the present "
                f"input and weights; call feedforward() on every layer, the one next to the "
                f"InputLayer first"
            )
        path.append(layer)
        layer = layer.upper_layer
    return path


def _check_finite(array: Array, what: str, backend: Backend) -> None:
    with backend.on_device():
        finite = bool(backend.to_numpy(backend.xp.all(backend.xp.isfinite(array))))
    if not finite:
        raise DataError(f"{what} holds NaN or infinity, which would spoil all weights; remove it")


def _as_activation(activation: Any, units: int) -> Layer:
    """An elementwise layer, or one like Softmax: no weights, no memory, the shape kept."""
    if units == 1 and (isinstance(activation, Softmax) or activation is Softmax):
        raise ValueError("Softmax of one unit is 1, whatever comes in; write Sigmoid in its place")
    try:
        layer = activation() if isinstance(activation, type) else activation
    except TypeError:  # a class that cannot do without arguments, such as Dense
        layer = activation
    if (
        isinstance(layer, Layer)
        and type(layer).init_params is Layer.init_params
        and type(layer).init_state is Layer.init_state
        and not layer.children()
        and layer.output_shape((units,)) == (units,)
    ):
        return layer
    raise TypeError(
        f"activation is a layer without weights that keeps the shape, as a class or an object, "
        f"such as Sigmoid, LeakyReLU(0.1) or Softmax, got {activation!r}"
    )
