"""GaussianSample: what a variational autoencoder has between encoder and decoder."""

from collections.abc import Callable
from typing import Any

from xpnn.errors import ShapeError
from xpnn.layers.base import ANY_NUMBER
from xpnn.layers.dropout import Disturbance, normal_of
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape

LOWEST, HIGHEST = -30.0, 20.0


class GaussianSample(Disturbance):
    """Draws from normal distributions of the means and variances that come in, kept near N(0, 1).

    Forward, for inputs Z = [m, v] of shape (batch, ..., 2 features), halves of the last axis, the
    means and the logarithms of variances, with normal draws e in training and e = 0 in prediction
    (Kingma and Welling, 2014, section 2.4), over a batch of n samples::

        S = m + exp(v / 2) e
        t = beta / (2 n) sum (m^2 + exp(v) - 1 - v)          the term "kl" of the loss

    t is beta times the mean of KL(N(m, exp(v)) || N(0, 1)), summed over the features of a sample
    (their appendix B; beta is that of Higgins et al., 2017, eq. 4). Backward, given delta = dL/dS,
    with c the ``term_factor``::

        dL/dm = delta + c beta / n m
        dL/dv = delta exp(v / 2) e / 2 + c beta / (2 n) (exp(v) - 1)

    v is taken from -30 to 20, beyond which dL/dv is 0. The draws are made as in ``GaussianNoise``:
    the same on every backend, but for the last bits of log and cos. Beside the mean squared error
    over k numbers of a sample, beta = 1 / k is the paper's bound for noise of variance 1/2.

    Args:
        beta: at least 0, what the term is multiplied by.

    Raises:
        ShapeError: the last axis has no two halves.

    >>> from xpnn import Network
    >>> net = Network([GaussianSample()], input_shape=(4,))
    >>> net.predict([[1.0, 2.0, 0.0, 0.0]]).tolist()  # the means
    [[1.0, 2.0]]
    """

    adds = "kl"
    gives = ANY_NUMBER

    def __init__(self, beta: float = 1.0):
        super().__init__()
        if not beta >= 0:
            raise ValueError(f"GaussianSample needs a beta of at least 0, got beta={beta}")
        self.beta = float(beta)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] % 2:
            raise ShapeError(
                f"{self!r} takes means and as many logarithms of variances side by side, on the "
                f"last axis, got inputs of shape {input_shape}; give it an even number of features"
            )
        return (*input_shape[:-1], input_shape[-1] // 2)

    def deviation(self, xp: Namespace, v: Array, one: Array, other: Array) -> Array:
        """``exp(v / 2) e``, from v and two arrays of random words."""
        spread = xp.exp(0.5 * _bounded(xp, widened(v, xp)))
        return xp.astype(spread * xp.astype(normal_of(xp, one, other), spread.dtype), v.dtype)

    def divergence(self, xp: Namespace, m: Array, v: Array) -> Array:
        """Twice what each feature adds to KL."""
        m, v = widened(m, xp), _bounded(xp, widened(v, xp))
        return m * m + (xp.exp(v) - 1.0 - v)

    def slopes(
        self, xp: Namespace, m: Array, v: Array, away: Array, delta: Array, share: Array
    ) -> tuple[Array, Array]:
        """``dL/dm`` and ``dL/dv``.

        Args:
            away: exp(v / 2) e.
            share: c beta / n.
        """
        wide, inside = widened(v, xp), (v > LOWEST) & (v < HIGHEST)
        own = 0.5 * (
            share * (xp.exp(_bounded(xp, wide)) - 1.0)
        )  # CuPy takes 0.5 * share in float16
        back = xp.where(inside, 0.5 * widened(delta, xp) * widened(away, xp) + own, 0.0 * own)
        return (
            xp.astype(widened(delta, xp) + share * widened(m, xp), m.dtype),
            xp.astype(back, v.dtype),
        )

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "deviate": elementwise(self.deviation),
            "diverge": elementwise(self.divergence),
            "pass_back": elementwise(self.slopes),
        }

    def forward(self, Z: Array, training: bool = False) -> Array:
        half = Z.shape[-1] // 2
        m, v = Z[..., :half], Z[..., half:]
        total = self.xp.sum(self.fused["diverge"](m, v))
        self.cache["term"] = total * (0.5 * self.beta / max(Z.shape[0], 1))
        if training:
            words = self.random_bits((2, *v.shape), axis=1)
            away = self.fused["deviate"](v, words[0, ...], words[1, ...])
        else:
            away = self.xp.zeros_like(m)
        self.cache["m"], self.cache["v"], self.cache["away"] = m, v, away
        return m + away

    def backward(self, delta: Array) -> Array:
        m, v, away = (self.cache[name] for name in ("m", "v", "away"))
        share = self.term_factor * (self.beta / max(m.shape[0], 1))
        back = self.fused["pass_back"](m, v, away, delta, share)
        return self.xp.concat(list(back), axis=-1)

    def __repr__(self) -> str:
        return f"GaussianSample({'' if self.beta == 1.0 else self.beta})"


def _bounded(xp: Namespace, v: Array) -> Array:
    return xp.minimum(xp.maximum(v, LOWEST), HIGHEST)
