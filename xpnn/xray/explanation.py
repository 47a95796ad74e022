"""Explanation: steps of a network that were looked into, and the forms in which they are shown."""

from typing import Any

from xpnn.xray.data import as_data
from xpnn.xray.text import as_text
from xpnn.xray.views import Record


class Explanation(Record):
    """Training steps with all that was seen in them: ``print`` it, or look at its arrays.

    ``steps[0].layers["0.dense"].delta`` is what came back to a layer, and so on for all that a
    ``LayerView`` has; ``layers`` tells what the layers are, with their equations. All arrays are
    NumPy's, copies of what there was.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> seen = xpnn.explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse")
    >>> seen.steps[0].layers["0.dense"].grads["weight"].tolist()
    [[-5.0]]
    """

    def data(self) -> dict[str, Any]:
        """All of it in the form in which a page holds it; see ``xpnn.xray.data``."""
        return as_data(self)

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        steps = f"{len(self.steps)} step{'s' * (len(self.steps) != 1)}"
        return f"<{steps} of {len(self.layers)} layers on {self.backend}: {self.title}>"
