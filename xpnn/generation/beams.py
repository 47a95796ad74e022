"""The likeliest texts of a length, as far as they are kept."""

import numpy as np

from xpnn.numerics import log_softmax


class Beams:
    """The texts that a beam search keeps, and for each prompt the best that has ended.

    Args:
        prompts: ids, (prompts, length).
        beams: how many texts are kept for each.
        length_penalty: as for ``beam_search``.
        ends: the ids that end a text.

    Attributes:
        texts: (prompts * beams, time), those of a prompt behind each other.

    >>> import numpy as np
    >>> beams = Beams(np.array([[1]]), 2, 0.0, np.array([0]))
    >>> rows = beams.brought_on(np.log([[0.2, 0.5, 0.3]] * 2))  # 0 ends a text
    >>> beams.texts.tolist()
    [[1, 1], [1, 2]]
    """

    def __init__(self, prompts: np.ndarray, beams: int, length_penalty: float, ends: np.ndarray):
        self.texts = np.repeat(prompts, beams, axis=0)
        self._length, self._penalty, self._ends = prompts.shape[1], length_penalty, ends
        self._totals = np.full((len(prompts), beams), -np.inf)  # of log P
        self._totals[:, 0] = 0.0  # the others are the same text
        self._ended = list(prompts)
        self._scores = np.full(len(prompts), -np.inf)

    def brought_on(self, scores: np.ndarray) -> np.ndarray:
        """Go on by an id; returns which row each text was that is kept now.

        Args:
            scores: of all ids after each text, (prompts * beams, vocabulary).
        """
        prompts, beams = self._totals.shape
        scores = scores.astype(np.float64).reshape(prompts, beams, -1)
        totals = self._totals[:, :, None] + log_softmax(scores, np)
        self._end(totals)
        totals[:, :, self._ends] = -np.inf
        totals = totals.reshape(prompts, -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, :beams]
        self._totals = np.take_along_axis(totals, order, axis=1)
        parents, ids = np.divmod(order, scores.shape[2])
        rows = (parents + beams * np.arange(prompts)[:, None]).reshape(-1)
        self.texts = np.concatenate([self.texts[rows], ids.reshape(-1, 1)], axis=1)
        return rows

    def are_settled(self, left: int) -> bool:
        """Whether none that is kept can do better, with so many ids left to write."""
        bounds = self._totals.max(axis=1) / self._divisor(left)
        return bool(np.all(self._scores >= bounds))

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each prompt the best text, all filled up to one length, and its score."""
        scores = self._totals[:, 0] / self._divisor()
        kept = self.texts.reshape(*self._totals.shape, -1)[:, 0]
        texts = [
            ended if done else text
            for ended, done, text in zip(self._ended, self._scores >= scores, kept, strict=True)
        ]
        longest = max(map(len, texts))
        filled = [np.pad(text, (0, longest - len(text)), mode="edge") for text in texts]
        return np.stack(filled), np.maximum(self._scores, scores)

    def _end(self, totals: np.ndarray) -> None:
        """Take note of the best of the texts that would end now."""
        if not self._ends.size:
            return
        prompts, beams = self._totals.shape
        ending = totals[:, :, self._ends].reshape(prompts, -1) / self._divisor(1)
        for prompt, (where, score) in enumerate(zip(ending.argmax(1), ending.max(1), strict=True)):
            if score > self._scores[prompt]:
                beam, k = divmod(int(where), self._ends.size)
                text = self.texts[prompt * beams + beam]
                self._ended[prompt] = np.append(text, self._ends[k])
                self._scores[prompt] = score

    def _divisor(self, more: int = 0) -> float:
        """Of the log P of texts with so many more ids than those that are kept."""
        written = self.texts.shape[1] - self._length + more
        return float(((5 + written) / 6) ** self._penalty)
