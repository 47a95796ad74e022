"""What the loss, the last layer and the metrics each take the outputs for: tried, for all of them.

``docs/outputs.md`` has the table that comes of it. What a cell says is found from numbers: those
that are measured are compared with what is worked out here, in float64, for each way to read them.
"""

import functools
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn import (
    F1,
    MAE,
    R2,
    SGD,
    Accuracy,
    Dense,
    Layer,
    Network,
    Precision,
    Recall,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    TopK,
    Trainer,
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    quadratic_cost,
)

pytestmark = [
    pytest.mark.host_only,
    pytest.mark.fault("loss, last layer and metric that do not fit"),
]

from_probabilities = functools.partial(binary_cross_entropy, from_logits=False)


class YourLayer(Layer):
    def forward(self, x, training=False):
        return x

    def backward(self, delta):
        return delta


def your_loss(predictions, targets, *, sample_weight=None, backend=None):
    return (predictions * 0.0).sum(), predictions * 0.0


LOSSES = {
    "`cross_entropy`": cross_entropy,
    "`kl_divergence`": kl_divergence,
    "`binary_cross_entropy`": binary_cross_entropy,
    "`binary_cross_entropy`, `from_logits=False`": from_probabilities,
    "`hinge`": hinge,
    "`mean_squared_error`": mean_squared_error,
    "`quadratic_cost`": quadratic_cost,
    "`mean_absolute_error`": mean_absolute_error,
    "`huber`": huber,
    "one of your own that does not say": your_loss,
}
LAYERS = {  # and those whose outputs lie in the same range
    "`Dense`": lambda: Sequential([]),
    "`Tanh`": Tanh,
    "`ReLU`": ReLU,
    "`Sigmoid`": Sigmoid,
    "`Softmax`": Softmax,
    "one of your own": YourLayer,
}
COUNTS = (Accuracy, Precision, Recall, F1)

RNG = np.random.default_rng(0)
X = RNG.normal(0.2, 1.2, size=(90, 3))
YES = (X[:, :1] + RNG.normal(size=(90, 1)) > 0.2).astype(float)
LABELS = (X + RNG.normal(size=(90, 3)) > 0.3).astype(float)  # none, one or several a row
ROWS = np.eye(3)[np.argmax(X + RNG.normal(size=(90, 3)), axis=1)]


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def softmax(s):
    powers = np.exp(s - s.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


ACTIVATE = {
    "`Tanh`": np.tanh,
    "`ReLU`": lambda s: np.maximum(s, 0),
    "`Sigmoid`": sigmoid,
    "`Softmax`": softmax,
}


def network(last, units):
    """A network whose outputs are those of the last layer for X as it is."""
    copy = Dense(units, use_bias=False, weight_init=lambda shape, rng: np.eye(units))
    return Network([copy, LAYERS[last]()], (units,), dtype="float64")


def trainer(last, loss, units, *metrics):
    return Trainer(network(last, units), loss, SGD(0.1), metrics=metrics, compile=False)


def counted(chosen, true):
    """Accuracy, precision, recall and F1 of answers that are yes or no."""
    hits, alarms, misses = sum(chosen & true), sum(chosen & ~true), sum(~chosen & true)
    each = hits / max(hits + alarms, 1), hits / max(hits + misses, 1)
    return np.mean(chosen == true), *each, 2 * hits / max(2 * hits + alarms + misses, 1)


def of_columns(chosen, true):
    """Accuracy of all numbers, and the means over the columns of the others."""
    columns = zip(chosen.T, true.T, strict=True)
    _, *others = np.mean([counted(*column) for column in columns], axis=0)
    return np.mean(chosen == true), *others


def largest(outputs):
    return np.eye(outputs.shape[-1], dtype=bool)[np.argmax(outputs, axis=-1)]


def by_hand(outputs, targets, several):
    """Each way to read the outputs, and what the four metrics then are."""
    true = targets > 0.5
    found = {f"above {bound:g}": of_columns(outputs > bound, true) for bound in (0, 0.5)}
    if several:
        _, *others = of_columns(largest(outputs), true)
        right = np.mean(np.argmax(outputs, axis=-1) == np.argmax(targets, axis=-1))
        found = {"the largest": (right, *others)}
    return found


def outcome(run):
    """What a run gives, or that it is refused; whether the advice works is tested below."""
    try:
        return run()
    except ValueError:
        return "refused"


def read_as(caplog, last, loss, targets, several=False, **options):
    """How the four metrics of answers read the outputs: in the same way."""
    units, outputs = targets.shape[1], X[:, : targets.shape[1]]
    outputs = ACTIVATE.get(last, lambda s: s)(outputs)
    ways = by_hand(outputs, targets, several)

    def measure(kind):
        caplog.clear()
        found = trainer(last, loss, units, kind(**options)).evaluate(X[:, :units], targets)
        (way,) = [
            way
            for way, numbers in ways.items()
            if found[kind.name] == pytest.approx(numbers[COUNTS.index(kind)], abs=1e-9)
        ]
        return way + ", with a warning" * bool(caplog.records)

    (way,) = {outcome(functools.partial(measure, kind)) for kind in COUNTS}
    return way


def compared(last, loss):
    """Whether outputs are compared with the targets as numbers."""
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    numbers = {
        MAE: np.mean(np.abs(outputs - ROWS)),
        R2: np.mean(1 - ((ROWS - outputs) ** 2).mean(axis=0) / ROWS.var(axis=0)),
    }

    def measure(kind):
        found = trainer(last, loss, 3, kind()).evaluate(X, ROWS)[kind.name]
        assert found == pytest.approx(numbers[kind], abs=1e-9)
        return "yes"

    (answer,) = {outcome(functools.partial(measure, kind)) for kind in numbers}
    return answer


def ranked(last, loss):
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    place = np.sum(outputs >= np.max(outputs * ROWS - 99 * (1 - ROWS), 1, keepdims=True), axis=1)

    def measure():
        found = trainer(last, loss, 3, TopK(2)).evaluate(X, ROWS)["top_2"]
        assert found == pytest.approx(np.mean(place <= 2))
        return "yes"

    return outcome(measure)


def made_probabilities(last, loss):
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    ways = {"softmax": softmax(outputs), "sigmoid": sigmoid(outputs), "as they are": outputs}

    def predict():
        found = trainer(last, loss, 3).predict(X, probabilities=True)
        (way,) = [way for way, p in ways.items() if np.allclose(found, p, atol=1e-9)]
        return way

    return outcome(predict)


HEADINGS = (
    *("loss", "last layer", "one output: yes is", "several: the class is"),
    *("`multilabel=True`: yes is", "`TopK`", "`MAE`, `R2`", "`predict(probabilities=True)`"),
)


def cells(loss, last, caplog):
    return (
        read_as(caplog, last, loss, YES),
        read_as(caplog, last, loss, ROWS, several=True),
        read_as(caplog, last, loss, LABELS, multilabel=True),
        ranked(last, loss),
        compared(last, loss),
        made_probabilities(last, loss),
    )


def grouped(pairs):
    """Names with equal contents joined, in their order."""
    found = {}
    for name, content in pairs:
        found.setdefault(content, []).append(name)
    return [("; ".join(names), content) for content, names in found.items()]


def table(caplog):
    """The lines of the table, those of equal contents joined."""
    rows = []
    of_losses = [
        (name, tuple(grouped((last, cells(loss, last, caplog)) for last in LAYERS)))
        for name, loss in LOSSES.items()
    ]
    for losses, of_layers in grouped(of_losses):
        rows += [(losses, layers, *content) for layers, content in of_layers]
    return [f"| {' | '.join(row)} |" for row in (HEADINGS, ["---"] * len(HEADINGS), *rows)]


def test_the_table_in_the_docs_is_what_happens(caplog):
    wanted = "\n".join(table(caplog))
    page = Path(__file__).parents[1].joinpath("docs", "outputs.md").read_text()
    found = "\n".join(line for line in page.splitlines() if line.startswith("| "))
    assert found == wanted, f"docs/outputs.md should have\n\n{wanted}"


def test_the_ways_to_read_outputs_are_told_apart():
    """Or the table would name one for another."""
    outputs = by_hand(X[:, :1], YES, False), by_hand(sigmoid(X[:, :1]), YES, False)
    for ways in (*outputs, by_hand(X, LABELS, False), by_hand(sigmoid(X), LABELS, False)):
        first, second = (np.array(numbers) for numbers in ways.values())
        assert np.all(np.abs(first - second) > 0.001)


# What is refused, and whether the advice works --------------------------------------------------

REFUSED = [
    (loss, last)
    for loss, last in itertools.product(
        (cross_entropy, kl_divergence, binary_cross_entropy, from_probabilities, hinge),
        ("`Dense`", "`Tanh`", "`ReLU`", "`Sigmoid`", "`Softmax`"),
    )
    if outcome(functools.partial(trainer, last, loss, 3)) == "refused"
]


def remedies(error, loss, last):
    """The networks and losses that an error says to write."""
    said = str(error)
    made = LAYERS[last]()
    if "end the network in Sigmoid()" in said:
        yield network("`Sigmoid`", 3), loss
    if f"leave {made!r} out" in said:
        yield network("`Dense`", 3), loss
    if "leave from_logits=False out" in said:
        yield network(last, 3), loss.func
    for code in re.findall(r"functools\.partial\(.*?\)", said):
        yield network(last, 3), eval(code, {"functools": functools, **vars(xpnn)})


@pytest.mark.parametrize(("loss", "last"), REFUSED)
def test_what_a_refusal_says_to_write_works(loss, last):
    with pytest.raises(ValueError, match="takes outputs for") as caught:
        trainer(last, loss, 3)
    found = list(remedies(caught.value, loss, last))
    assert found
    for net, other in found:
        better = Trainer(net, other, SGD(0.1), compile=False)
        before = better.evaluate(X, ROWS)["loss"]
        better.fit(X, ROWS, epochs=3, progress=False)
        assert better.evaluate(X, ROWS)["loss"] < before
        if "probabilities=True" in str(caught.value):
            p = better.predict(X, probabilities=True)
            assert np.all((p >= 0) & (p <= 1))
