"""The transformer's blocks: attention and a small network, each around a shortcut."""

from collections.abc import Callable
from typing import Any, ClassVar

from xpnn.errors import ShapeError
from xpnn.layers.activations import GELU
from xpnn.layers.base import Layer
from xpnn.layers.containers import Container, Residual, Sequential
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import Dropout
from xpnn.layers.normalization import LayerNorm
from xpnn.layers.sequence.attention import MultiHeadAttention
from xpnn.layers.sequence.cross_attention import CrossAttention
from xpnn.typing import Array, Shape, Shapes


def tanh_gelu() -> Layer:
    """The activation of GPT-2."""
    return GELU("tanh")


def _around(way: list[Layer], norm: Callable[[], Layer], norm_first: bool) -> list[Layer]:
    """A way with a shortcut around it, and N in front of the way or behind both."""
    return [Residual([norm(), *way])] if norm_first else [Residual(way), norm()]


def _thought(
    features: int, hidden: int | None, dropout: float, activation: Callable[[], Layer]
) -> list[Layer]:
    """F, and the dropout behind it."""
    width = 4 * features if hidden is None else hidden
    return [Dense(width), activation(), Dense(features), Dropout(dropout)]


class TransformerBlock(Sequential):
    """Steps look at each other, then each thinks by itself; one block of a transformer.

    Forward, for inputs Z of shape (batch, time, features), with N the normalisation, A the
    attention, F(Z) = f(Z W_1 + b_1) W_2 + b_2, and dropout on A and F::

        Z <- Z + A(N(Z))              Z <- Z + F(N(Z))            norm_first, as GPT-2 does it
        Z <- N(Z + A(Z))              Z <- N(Z + F(Z))            otherwise (Vaswani et al., 2017)

    Backward adds what comes back through each of the two ways to the delta of its shortcut, or,
    otherwise, first goes back through N::

        delta <- delta + N'(F'(delta))      delta <- delta + N'(A'(delta))      norm_first

    It is made of the layers of this package, and so is its backward. Blocks with ``norm_first``
    train without warm-up (Xiong et al., 2020); put one more N behind the last of them.

    Args:
        features: of every step, in and out.
        heads: of the attention; see ``MultiHeadAttention``.
        hidden: width of F, four times the features unless given.
        kv_heads: of the attention; see ``MultiHeadAttention``.
        causal: whether a step sees only itself and the steps before it.
        window: how many of these it sees at most.
        norm_first: where N stands.
        dropout: share to drop in training: of the attention's weights, of A and of F.
        rotate: whether attention tells positions apart by turning, as in
            ``MultiHeadAttention``.
        alibi: whether it does so by scores that fall with the distance.
        norm: makes N; ``RMSNorm``, for one.
        activation: makes f, ``GELU("tanh")`` unless given.

    >>> TransformerBlock(64, 4).output_shape((20, 64))
    (20, 64)
    """

    fixed = (
        *Sequential.fixed,
        "features",
        "heads",
        "hidden",
        "kv_heads",
        "causal",
        "window",
        "norm_first",
        "dropout",
        "rotate",
        "alibi",
        "norm",
        "activation",
    )

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        hidden: int | None = None,
        kv_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        norm_first: bool = True,
        dropout: float = 0.0,
        rotate: bool = False,
        alibi: bool = False,
        norm: Callable[[], Layer] = LayerNorm,
        activation: Callable[[], Layer] = tanh_gelu,
    ):
        self.features, self.heads, self.hidden = features, heads, hidden
        self.kv_heads, self.causal, self.window = kv_heads, causal, window
        self.norm_first, self.rotate, self.alibi = norm_first, rotate, alibi
        self.dropout, self.norm, self.activation = dropout, norm, activation
        attention = MultiHeadAttention(
            heads,
            kv_heads=kv_heads,
            causal=causal,
            window=window,
            dropout=dropout,
            rotate=rotate,
            alibi=alibi,
        )
        think = _thought(features, hidden, dropout, activation)
        ways: list[list[Layer]] = [[attention, Dropout(dropout)], think]
        super().__init__([layer for way in ways for layer in _around(way, norm, norm_first)])

    def __repr__(self) -> str:
        return f"TransformerBlock({self.features}, {self.heads})"


class TransformerDecoderBlock(Container):
    """Steps look at those before them, then at another sequence, and then each thinks by itself.

    One block of the decoder of Vaswani et al. (2017, section 3.1).

    Forward, called on its sequence Z (batch, time, features) and on the context C (batch, length,
    context features) that an encoder has made, with A the causal attention of Z to itself, B the
    attention of Z to C (``CrossAttention``), N the normalisation, F(Z) = f(Z W_1 + b_1) W_2 + b_2,
    and dropout on A, B and F::

        Z <- Z + A(N(Z))      Z <- Z + B(N(Z), C)      Z <- Z + F(N(Z))        norm_first
        Z <- N(Z + A(Z))      Z <- N(Z + B(Z, C))      Z <- N(Z + F(Z))        otherwise

    A third input (batch, length) says which steps of C are seen, and a fourth (batch, time) which
    of Z itself: those where it is not 0, such as ``PaddingMask`` makes them of ids. They have no
    gradients. Z filled up at its end needs no fourth, as no real step sees what comes behind it.
    Inside of ``Masked`` its mask is that of Z.

    Backward goes through the three ways in reverse, each of which adds what comes back through it
    to the delta of its shortcut; what B gives for C is dL/dC. Returned are dL/dZ and dL/dC::

        delta <- delta + N'(F'(delta))                                         norm_first
        delta <- delta + N'(B'(delta))          delta <- delta + N'(A'(delta))

    Args:
        features: of every step of Z.
        heads: of both attentions; see ``MultiHeadAttention``.
        hidden: width of F, four times the features unless given.
        kv_heads: of both attentions.
        window: how many steps of Z a step sees at most, itself among them.
        norm_first: where N stands; put one more N behind the last block with it.
        dropout: share to drop in training: of the weights of both attentions, of A, of B and of F.
        rotate: whether A tells positions apart by turning, as in ``MultiHeadAttention``.
        alibi: whether A does so by scores that fall with the distance.
        norm: makes N; ``RMSNorm``, for one.
        activation: makes f, ``GELU("tanh")`` unless given.

    Raises:
        ShapeError: the inputs are no sequences, or have other features; from where the layer is
            called on nodes.

    >>> from xpnn import Input
    >>> TransformerDecoderBlock(64, 4)(Input((20, 64)), Input((30, 64))).shape
    (20, 64)
    """

    arity = None
    contexts = (1, 2)
    fixed: ClassVar[tuple[str, ...]] = tuple(
        name for name in TransformerBlock.fixed if name != "causal"
    )

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        hidden: int | None = None,
        kv_heads: int | None = None,
        window: int | None = None,
        norm_first: bool = True,
        dropout: float = 0.0,
        rotate: bool = False,
        alibi: bool = False,
        norm: Callable[[], Layer] = LayerNorm,
        activation: Callable[[], Layer] = tanh_gelu,
    ):
        self.features, self.heads, self.hidden = features, heads, hidden
        self.kv_heads, self.window, self.norm_first = kv_heads, window, norm_first
        self.rotate, self.alibi, self.dropout = rotate, alibi, dropout
        self.norm, self.activation = norm, activation
        options: dict[str, Any] = {"kv_heads": kv_heads, "dropout": dropout}
        self._itself = MultiHeadAttention(
            heads, causal=True, window=window, rotate=rotate, alibi=alibi, **options
        )
        look: list[Layer] = [self._itself, Dropout(dropout)]
        think = _thought(features, hidden, dropout, activation)
        super().__init__(
            [
                Sequential(_around(look, norm, norm_first)),
                norm(),
                CrossAttention(heads, **options),
                Dropout(dropout),
                Sequential(_around(think, norm, norm_first)),
            ]
        )

    def children(self) -> dict[str, Layer]:
        return dict(zip(("look", "norm", "across", "dropout", "think"), self.layers, strict=True))

    def output_shape(self, input_shape: Shapes) -> Shape:
        steps, context, *masks = input_shape
        fitting = context[:1], steps[:1]
        if tuple(masks) != fitting[: len(masks)] or len(masks) > 2:
            raise ShapeError(
                f"{self!r} wants, behind its sequence and the context, no more than masks of shape "
                f"{fitting[0]} and {fitting[1]}, got {', '.join(map(str, masks))}"
            )
        if steps[1:] != (self.features,):
            raise ShapeError(
                f"{self!r} wants a sequence of shape (time, {self.features}), got {steps}; a "
                f"Dense({self.features}) makes other features fit"
            )
        shape: Shape = steps
        for layer, shapes in zip(self.layers, self.child_shapes(input_shape), strict=True):
            shape = layer.output_shape(shapes)
        return shape

    def child_shapes(self, input_shape: Shapes) -> list[Shapes]:
        steps, across = input_shape[0], input_shape[:3]
        return [steps, steps, across, steps, steps]

    def forward(self, Z: tuple[Array, ...], training: bool = False) -> Array:
        look, norm, across, drop, think = self.layers
        steps, context, *masks = Z
        self.cache["unlearned"] = len(masks)
        if len(masks) == 2:
            self._itself.cache["mask"] = masks.pop() != 0
        steps = look.forward(steps, training)
        queries = norm.forward(steps, training) if self.norm_first else steps
        steps = steps + drop.forward(across.forward((queries, context, *masks), training), training)
        return think.forward(steps if self.norm_first else norm.forward(steps, training), training)

    def backward(self, delta: Array) -> tuple[Array | None, ...]:
        look, norm, across, drop, think = self.layers
        delta = self._back(think, delta)
        if not self.norm_first:
            delta = self._back(norm, delta)
        to_queries, to_context, *_ = self._back(across, self._back(drop, delta))
        if self.norm_first:
            to_queries = self._back(norm, to_queries)
        unlearned = [None] * self.cache["unlearned"]
        return self._back(look, delta + to_queries), to_context, *unlearned

    def _back(self, layer: Layer, delta: Array) -> Any:
        """Hand delta through a layer, which in a step forgets what it kept."""
        back = layer.backward(delta)
        if self.in_step:
            layer.forget()
        return back

    def __repr__(self) -> str:
        return f"TransformerDecoderBlock({self.features}, {self.heads})"
