"""An id drawn by its score."""

import numpy as np
from numpy.random import Generator


def sample(
    scores: np.ndarray,
    rng: Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Draw an id for each row of ``scores``: with probability ``softmax(scores / temperature)``.

    Args:
        scores: (batch, vocabulary), on the host.
        rng: where the randomness comes from.
        temperature: below 1 for likelier ids, above 1 for stranger ones; 0 for the likeliest id.
        top_k: draw only among the ids with the ``top_k`` highest scores.
        top_p: draw only among the likeliest ids, as few as have a probability of ``top_p`` together
            (Holtzman et al., 2020, section 3.1), by what temperature and top_k leave.

    Returns:
        Ids, (batch,).

    >>> import numpy as np
    >>> sample(np.array([[0.0, 2.0, 1.0]]), np.random.default_rng(0), temperature=0)
    array([1])
    """
    fits = temperature >= 0 and (top_k is None or top_k >= 1) and (top_p is None or 0 < top_p <= 1)
    if not fits:
        raise ValueError(
            f"wanted a temperature of at least 0, top_k of at least 1 and top_p above 0, at most "
            f"1, got temperature={temperature}, top_k={top_k}, top_p={top_p}"
        )
    if temperature == 0:
        return np.argmax(scores, axis=1)
    scores = scores.astype(np.float64)
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    shares = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    if top_p is not None:
        shares = _nucleus(shares, top_p)
    up_to = np.cumsum(shares, axis=1)
    mark = rng.random((len(scores), 1)) * up_to[:, -1:]
    return np.minimum(np.sum(up_to <= mark, axis=1), scores.shape[1] - 1)


def _nucleus(shares: np.ndarray, top_p: float) -> np.ndarray:
    """The shares, but 0 where larger ones have ``top_p`` of all already."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    up_to = np.cumsum(ranked, axis=1)
    ranked[up_to - ranked >= top_p * up_to[:, -1:]] = 0.0
    kept = np.empty_like(shares)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept
