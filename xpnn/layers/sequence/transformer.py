"""The transformer's block: attention and a small network, each around a shortcut."""

from collections.abc import Callable

from xpnn.layers.activations import GELU
from xpnn.layers.base import Layer
from xpnn.layers.containers import Residual, Sequential
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import Dropout
from xpnn.layers.normalization import LayerNorm
from xpnn.layers.sequence.attention import MultiHeadAttention


def tanh_gelu() -> Layer:
    """The activation of GPT-2."""
    return GELU("tanh")


class TransformerBlock(Sequential):
    """Steps look at each other, then each thinks by itself; one block of a transformer.

    With N the normalisation, F(Z) = f(Z W_1 + b_1) W_2 + b_2, and dropout on A and F::

        Z <- Z + A(N(Z))              Z <- Z + F(N(Z))            norm_first, as GPT-2 does it
        Z <- N(Z + A(Z))              Z <- N(Z + F(Z))            otherwise (Vaswani et al., 2017)

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
        rotate: whether attention tells positions apart by turning, see ``Rotary``.
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
        look: list[Layer] = [attention, Dropout(dropout)]
        hidden = 4 * features if hidden is None else hidden
        think = [Dense(hidden), activation(), Dense(features), Dropout(dropout)]
        layers: list[Layer] = []
        for way in (look, think):
            layers += [Residual([norm(), *way])] if norm_first else [Residual(way), norm()]
        super().__init__(layers)

    def __repr__(self) -> str:
        return f"TransformerBlock({self.features}, {self.heads})"
