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
from tests.test_public import kinds, plain, public_losses
from xpnn import (
    F1,
    MAE,
    R2,
    ROCAUC,
    SGD,
    Accuracy,
    AveragePrecision,
    BalancedAccuracy,
    BrierScore,
    CalibrationError,
    Dense,
    Dropout,
    Embedding,
    ExplainedVariance,
    Flatten,
    GlobalMaxPool,
    Identity,
    IoU,
    Layer,
    LeakyReLU,
    LogLoss,
    Network,
    Parallel,
    Perplexity,
    Precision,
    Recall,
    Recompute,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SimpleRNN,
    Softmax,
    Softplus,
    Tanh,
    TiedDense,
    TopK,
    Trainer,
    binary_cross_entropy,
    binary_focal,
    contrastive,
    cosine_distance,
    cross_entropy,
    ctc,
    dice,
    focal,
    gaussian,
    guide,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    pinball,
    poisson,
    quadratic_cost,
    triplet,
)
from xpnn.errors import DataError, ShapeError
from xpnn.losses.outputs import outputs_of

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
    "`log_cosh`": log_cosh,
    "`pinball`": pinball,
    "`cosine_distance`": cosine_distance,
    "`focal`": focal,
    "`binary_focal`": binary_focal,
    "`dice`": dice,
    "`ctc`": ctc,
    "`poisson`": poisson,
    "`gaussian`": gaussian,
    "`triplet`": triplet,
    "`contrastive`": contrastive,
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
COUNTS = (Accuracy, Precision, Recall, F1, IoU, BalancedAccuracy)
NUMBERS = (MAE, R2, ExplainedVariance)
AREAS = (ROCAUC, AveragePrecision)
OF_PROBABILITIES = (LogLoss, Perplexity, BrierScore, CalibrationError)

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


@functools.cache
def untrained(last, units):
    """One network for all losses and metrics that only measure it."""
    return network(last, units)


def measuring(last, loss, units, *metrics):
    return Trainer(untrained(last, units), loss, SGD(0.1), metrics=metrics, compile=False)


def counted(chosen, true):
    """What the metrics of COUNTS are, of answers that are yes or no."""
    hits, alarms, misses = sum(chosen & true), sum(chosen & ~true), sum(~chosen & true)
    recall, right_no = hits / max(hits + misses, 1), sum(~chosen & ~true) / max(sum(~true), 1)
    f1 = 2 * hits / max(2 * hits + alarms + misses, 1)
    overlap = hits / max(hits + alarms + misses, 1)
    precision = hits / max(hits + alarms, 1)
    return np.mean(chosen == true), precision, recall, f1, overlap, (recall + right_no) / 2


def of_columns(chosen, true):
    """Accuracy of all numbers, and the means over the columns of the others."""
    columns = zip(chosen.T, true.T, strict=True)
    _, *others = np.mean([counted(*column) for column in columns], axis=0)
    return np.mean(chosen == true), *others


def largest(outputs):
    return np.eye(outputs.shape[-1], dtype=bool)[np.argmax(outputs, axis=-1)]


def by_hand(outputs, targets, several):
    """Each way to read the outputs, and what the metrics of COUNTS then are."""
    true = targets > 0.5
    found = {f"above {bound:g}": of_columns(outputs > bound, true) for bound in (0, 0.5)}
    if several:
        _, precision, recall, *others, _ = of_columns(largest(outputs), true)
        right = np.mean(np.argmax(outputs, axis=-1) == np.argmax(targets, axis=-1))
        found = {"the largest": (right, precision, recall, *others, recall)}
    return found


def outcome(run):
    """What a run gives, or that it is refused; whether the advice works is tested below."""
    try:
        return run()
    except ValueError:
        return "refused"


def read_as(caplog, last, loss, targets, several=False, **options):
    """How the metrics of COUNTS read the outputs: in the same way."""
    units, outputs = targets.shape[1], X[:, : targets.shape[1]]
    outputs = ACTIVATE.get(last, lambda s: s)(outputs)
    ways = by_hand(outputs, targets, several)

    def measure(kind):
        caplog.clear()
        found = measuring(last, loss, units, kind(**options)).evaluate(X[:, :units], targets)
        (way,) = [
            way
            for way, numbers in ways.items()
            if found[kind.name] == pytest.approx(numbers[COUNTS.index(kind)], abs=1e-9)
        ]
        return way + ", with a warning" * bool(caplog.records)

    kinds = COUNTS[:-1] if options else COUNTS  # a balanced accuracy is not of several labels
    (way,) = {outcome(functools.partial(measure, kind)) for kind in kinds}
    return way


def compared(last, loss):
    """Whether outputs are compared with the targets as numbers."""
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    numbers = {
        MAE: np.mean(np.abs(outputs - ROWS)),
        R2: np.mean(1 - ((ROWS - outputs) ** 2).mean(axis=0) / ROWS.var(axis=0)),
        ExplainedVariance: np.mean(1 - (ROWS - outputs).var(axis=0) / ROWS.var(axis=0)),
    }

    def measure(kind):
        found = measuring(last, loss, 3, kind()).evaluate(X, ROWS)[kind.name]
        assert found == pytest.approx(numbers[kind], abs=1e-9)
        return "yes"

    (answer,) = {outcome(functools.partial(measure, kind)) for kind in numbers}
    return answer


def ranked(last, loss):
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    place = np.sum(outputs >= np.max(outputs * ROWS - 99 * (1 - ROWS), 1, keepdims=True), axis=1)

    def measure():
        found = measuring(last, loss, 3, TopK(2)).evaluate(X, ROWS)["top_2"]
        assert found == pytest.approx(np.mean(place <= 2))
        return "yes"

    return outcome(measure)


def area_with_ties(scores, yes):
    above = scores[yes][:, None] - scores[~yes][None, :]
    return np.mean((above > 0) + 0.5 * (above == 0))


def precision_of(scores, yes):
    return np.mean([np.mean(yes[scores >= one]) for one in scores[yes]])


def ordered(last, loss):
    """What the areas go by."""
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    ways = {"outputs": outputs, "softmax": softmax(outputs)}

    def measure(kind):
        found = measuring(last, loss, 3, kind()).evaluate(X, ROWS)[kind.name]
        area = {ROCAUC: area_with_ties, AveragePrecision: precision_of}[kind]
        each = {
            way: np.mean([area(scores[:, k], ROWS[:, k] > 0.5) for k in range(3)])
            for way, scores in ways.items()
        }
        (way,) = [way for way, one in each.items() if found == pytest.approx(one, abs=1e-9)]
        return way

    (way,) = {outcome(functools.partial(measure, kind)) for kind in AREAS}
    return way


def likely(last, loss):
    """Whether outputs are the probabilities of classes, or each that of a yes, or neither."""

    def measure(kind, targets, **options):
        made = measuring(last, loss, 3, kind(**options))
        said = outputs_of(loss) in ("logits", "class logits", "probabilities")
        p = made.predict(X, probabilities=True) if said else made.predict(X)
        right = np.sum(p * targets, axis=1) if not options else np.where(targets > 0, p, 1 - p)
        squares = (p - targets) ** 2
        lost = -np.mean(np.log(np.maximum(right, np.finfo(float).eps)))
        numbers = {
            LogLoss: lost,
            Perplexity: np.exp(lost),
            BrierScore: squares.mean() if options else squares.sum(axis=1).mean(),
        }
        found = made.evaluate(X, targets)[kind.name]
        assert kind is CalibrationError or found == pytest.approx(numbers[kind], abs=1e-9)
        return "each a yes" if options else "yes"

    def way(kind):
        found = outcome(functools.partial(measure, kind, ROWS))
        if found == "refused":
            found = outcome(functools.partial(measure, kind, LABELS, multilabel=True))
        return found

    (found,) = {way(kind) for kind in OF_PROBABILITIES}
    return found


def made_probabilities(last, loss):
    outputs = ACTIVATE.get(last, lambda s: s)(X)
    ways = {"softmax": softmax(outputs), "sigmoid": sigmoid(outputs), "as they are": outputs}

    def predict():
        found = measuring(last, loss, 3).predict(X, probabilities=True)
        (way,) = [way for way, p in ways.items() if np.allclose(found, p, atol=1e-9)]
        return way

    return outcome(predict)


HEADINGS = (
    *("loss", "last layer", "one output: yes is", "several: the class is"),
    *("`multilabel=True`: yes is", "`TopK`", "areas go by", "numbers", "probabilities"),
    "`predict(probabilities=True)`",
)


def cells(loss, last, caplog):
    """What becomes of each; where the loss refuses the layer, no metric is asked for more."""
    one, several = (outcome(functools.partial(measuring, last, loss, k)) for k in (1, 3))
    of_one = "refused" if one == "refused" else read_as(caplog, last, loss, YES)
    if several == "refused":
        return of_one, *["refused"] * 7
    return (
        of_one,
        read_as(caplog, last, loss, ROWS, several=True),
        read_as(caplog, last, loss, LABELS, multilabel=True),
        ranked(last, loss),
        ordered(last, loss),
        compared(last, loss),
        likely(last, loss),
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


def test_every_public_loss_and_metric_has_its_line_and_column():
    assert {plain(loss) for loss in LOSSES.values()} == public_losses() | {your_loss}
    assert {*COUNTS, TopK, *AREAS, *NUMBERS, *OF_PROBABILITIES} == kinds(xpnn.Metric)


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


def smoothed(predictions, targets, *, sample_weight=None, backend=None):
    """A function that calls a loss of xpnn, and says what it takes outputs for."""
    return cross_entropy(
        predictions, targets, label_smoothing=0.1, sample_weight=sample_weight, backend=backend
    )


smoothed.outputs = "class logits"


class Focal:
    """A loss that is an object."""

    outputs = "logits"

    def __call__(self, predictions, targets, *, sample_weight=None, backend=None):
        return binary_cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )


@functools.wraps(binary_cross_entropy)
def wrapped(*arrays, **options):
    return binary_cross_entropy(*arrays, **options)


options = functools.partial(binary_cross_entropy, class_weight=[1.0, 2.0])
named = functools.partial(your_loss)
named.outputs = "class logits"
dense = Dense(4)
HIDDEN = {  # the kinds of places in which a last layer or a loss may hide
    "sequential": ([Dense(3), Sequential([Sequential([Softmax()])])], cross_entropy),
    "behind": ([Dense(3), Softmax(), Flatten(), Dropout(0.5)], kl_divergence),
    "parallel": ([Parallel([Sequential([Dense(2), Sigmoid()]), Softmax()])], cross_entropy),
    "sum": ([Parallel([Sigmoid(), ReLU()], "sum")], binary_cross_entropy),
    "residual": ([Sigmoid(), Residual([Dense(3), Sigmoid()])], binary_cross_entropy),
    "recompute": ([Recompute([Dense(3), Sigmoid()])], hinge),
    "tied": ([dense, Tanh(), TiedDense(3, dense), Sigmoid()], binary_cross_entropy),
    "softplus": ([Dense(3), Softplus()], binary_cross_entropy),
    "pooled": ([Reshape((3, 1)), Softplus(), GlobalMaxPool()], hinge),
    "options": ([Dense(3), Sigmoid()], options),
    "options of options": ([Dense(3)], functools.partial(options, from_logits=False)),
    "back to logits": ([Sigmoid()], functools.partial(from_probabilities, from_logits=True)),
    "a function": ([Dense(3), Softmax()], smoothed),
    "options of a function": ([Dense(3), Softmax()], functools.partial(smoothed)),
    "an object": ([Dense(3), Sigmoid()], Focal()),
    "wrapped": ([Dense(3), Sigmoid()], wrapped),
    "options of what is wrapped": ([Dense(3)], functools.partial(wrapped, from_logits=False)),
    "said of options": ([Dense(3), Softmax()], named),
    "one class": ([Dense(1)], cross_entropy),
    "a class of one": ([Dense(1), Softmax()], mean_squared_error),
    "a class of one for a loss of one's own": ([Dense(1), Softmax()], your_loss),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_last_layer_and_a_loss_are_found_wherever_they_are(name):
    layers, loss = HIDDEN[name]
    net = Network(layers, (3,))
    with pytest.raises(ValueError, match=r"takes outputs for|a unit for each class"):
        Trainer(net, loss, SGD(0.1))
    with pytest.raises(ValueError, match=r"takes outputs for|a unit for each class"):
        xpnn.make_train_step(net, loss, SGD(0.1))


def test_a_last_layer_that_learns_is_not_to_be_left_out():
    layers = [SimpleRNN(3, activation="relu")]
    with pytest.raises(ValueError, match=r"SimpleRNN.*from 0 to inf; end the network in (.*\));"):
        Trainer(Network(layers, (4, 2)), binary_cross_entropy, SGD(0.1))
    layers = [SimpleRNN(3, activation="relu"), Dense(3)]
    Trainer(Network(layers, (4, 2)), binary_cross_entropy, SGD(0.1))


ALLOWED = [
    ([Dense(3), YourLayer()], cross_entropy),
    ([Dense(3), Softmax()], your_loss),
    ([Dense(3), Softmax()], lambda p, t, **more: cross_entropy(p, t, **more)),
    ([Identity()], from_probabilities),
    ([Identity()], binary_cross_entropy),
    ([Softmax(), Dense(3)], cross_entropy),
    ([Dense(3), Residual([Sigmoid()])], binary_cross_entropy),
    ([Parallel([Sigmoid(), Dense(2)])], cross_entropy),
    ([Dense(3), LeakyReLU()], binary_cross_entropy),
    ([Dense(3), Sigmoid()], functools.partial(options, from_logits=False)),
]


@pytest.mark.parametrize(("layers", "loss"), ALLOWED)
def test_what_may_be_right_is_allowed(layers, loss):
    Trainer(Network(layers, (3,)), loss, SGD(0.1))


def test_a_loss_that_is_set_later_is_looked_at():
    made = Trainer(network("`Softmax`", 3), mean_squared_error, SGD(0.1))
    with pytest.raises(ValueError, match=r"leave Softmax\(\) out"):
        made.loss = cross_entropy
    made.fit(X, ROWS, progress=False)


def test_a_loss_that_says_something_else_is_told_the_words():
    loss = functools.partial(your_loss)
    loss.outputs = "logit"
    with pytest.raises(ValueError, match=r"outputs of your_loss is one of 'logits', .*got 'logit'"):
        trainer("`Dense`", loss, 3)


# Metrics that follow ------------------------------------------------------------------------------


def test_a_metric_follows_the_loss_that_is_set_later():
    x = np.array([[-3.0], [-1], [2], [4]])
    y = np.array([[0], [0], [1], [1]])
    made = Trainer(Network([Sigmoid()], (1,)), from_probabilities, SGD(0.1), metrics=[Accuracy()])
    assert made.evaluate(x, y)["accuracy"] == 1
    assert made.metrics[0].threshold is None  # what was given stays as it is
    made.loss = lambda p, t, **more: mean_squared_error(p, 0.0 * t, **more)
    assert made.evaluate(x, y)["accuracy"] == 1
    plain = Trainer(Network([Identity()], (1,)), hinge, SGD(0.1), metrics=[Accuracy()])
    assert plain.evaluate(x, y)["accuracy"] == 1
    plain.metrics = [Accuracy(threshold=3)]
    assert plain.evaluate(x, y)["accuracy"] == 0.75


REFUSED_METRICS = {  # network, loss, metric, what is said, and what it says to write
    "numbers of logits": (3, binary_cross_entropy, MAE(), "leave it out, or measure", Accuracy()),
    "numbers of classes": (3, cross_entropy, R2(), "leave it out, or measure", Accuracy()),
    "ranks of one": (1, binary_cross_entropy, TopK(1), "leave it out, or measure", Accuracy()),
    "labels of classes": (3, cross_entropy, F1(multilabel=True), "leave multilabel=True out", F1()),
    "numbers": (1, mean_squared_error, Recall(), "write threshold=0.5", Recall(threshold=0.5)),
    "signs": (1, mean_absolute_error, F1(), "threshold=0 for targets of -1", F1(threshold=0)),
}


@pytest.mark.parametrize("name", REFUSED_METRICS)
def test_what_a_metric_says_to_write_works(name):
    units, loss, metric, text, other = REFUSED_METRICS[name]
    with pytest.raises(ValueError, match=text):
        trainer("`Dense`", loss, units, metric)
    targets = {1: YES, 3: ROWS}[units]
    assert trainer("`Dense`", loss, units, other).evaluate(X[:, :units], targets)


@pytest.mark.parametrize("threshold", [0, 0.0, 1, -0.5])
def test_a_threshold_that_says_the_same_of_all_outputs_is_refused(threshold):
    with pytest.raises(ValueError, match=r"leave threshold out, or write threshold=0.5"):
        trainer("`Sigmoid`", from_probabilities, 1, Accuracy(threshold=threshold))


@pytest.mark.parametrize("way", ["share", "arrays", "batches", "evaluate", "batches to measure"])
def test_targets_of_several_labels_are_refused_before_the_first_step(way):
    net = network("`Dense`", 3)
    made = Trainer(net, binary_cross_entropy, SGD(0.1), metrics=[F1()])
    before = net.numpy_arrays()
    use = {
        "share": lambda: made.fit(X, LABELS, validation=0.5, progress=False),
        "arrays": lambda: made.fit(X, LABELS, validation=(X, LABELS), progress=False),
        "batches": lambda: made.fit([(X, ROWS)], validation=(X, LABELS), progress=False),
        "evaluate": lambda: made.evaluate(X, LABELS),
        "batches to measure": lambda: made.evaluate([(X, ROWS), (X, LABELS)]),
    }[way]
    with pytest.raises(DataError, match=r"write F1\(multilabel=True\)"):
        use()
    for name, value in net.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    made.metrics = [F1(multilabel=True)]
    use()


def test_without_a_metric_or_something_to_measure_several_labels_train():
    for metrics in ([], [F1()]):
        made = Trainer(network("`Dense`", 3), binary_cross_entropy, SGD(0.1), metrics=metrics)
        made.fit(X, LABELS, progress=False)


def test_several_labels_are_refused_where_outputs_sum_to_1():
    made = trainer("`Softmax`", from_probabilities, 3)
    made.fit(X, ROWS, progress=False)
    with pytest.raises(DataError, match=r"sum to 1, got .*; end the network in Sigmoid\(\)"):
        made.fit(X, LABELS, progress=False)
    trainer("`Sigmoid`", from_probabilities, 3).fit(X, LABELS, progress=False)


DIRECT = {
    "several labels": (F1(), X, LABELS, DataError, r"write F1\(multilabel=True\)"),
    "ranks of several": (TopK(2), X, LABELS, DataError, r"leave TopK\(\) out"),
    "probabilities": (Accuracy(), sigmoid(X[:, :1]), YES, DataError, "write threshold=0.5 for"),
    "flat": (Recall(), sigmoid(X[:, 0]), YES[:, 0], DataError, "write threshold=0.5 for"),
    "labels": (F1(multilabel=True), sigmoid(X), LABELS, DataError, "write threshold=0.5 for"),
    "a column": (Accuracy(), X, np.argmax(ROWS, 1)[:, None], ShapeError, r"write y\[\.\.\., 0\]"),
    "classes for one output": (Accuracy(), X[:, :1], 3 * YES, DataError, "write y == 1"),
    "counted from 1": (F1(), X, 1 + np.argmax(ROWS, 1), DataError, "give the last layer 4 units"),
    "turned": (MAE(), X[:3, :2], X[:2].T[:, :1], ShapeError, "predictions' shape"),
    "turned labels": (Accuracy(multilabel=True), X, LABELS.T, ShapeError, "one row for each"),
    "other rows": (Accuracy(), X, np.argmax(ROWS, 1)[:1], ShapeError, "align the data"),
    "ranks of one": (TopK(1), X[:, :1], YES, ShapeError, r"measure Accuracy\(\)"),
}


@pytest.mark.parametrize("name", DIRECT)
def test_called_by_itself_a_metric_refuses_what_it_cannot_tell(name):
    metric, predictions, targets, error, text = DIRECT[name]
    with pytest.raises(error, match=text):
        metric(predictions, targets)


@pytest.mark.parametrize("part", [1, 4, 1 << 20])
def test_many_targets_are_looked_at_part_by_part(part, monkeypatch):
    monkeypatch.setattr("xpnn.metrics.targets.LOOKED_AT_ONCE", part)
    rows = np.concatenate([ROWS, [[1.0, 0, 1]]])
    assert Accuracy()(ROWS, ROWS) == 1
    with pytest.raises(DataError, match="of several"):
        Accuracy()(rows, rows)


def test_rows_of_one_class_come_in_several_forms():
    chosen = np.argmax(X, axis=1)
    for rows in (np.eye(3), 2 * np.eye(3) - 1, 0.85 * np.eye(3) + 0.05, 0.1 * np.eye(3) + 0.3):
        assert Accuracy()(X, rows[chosen]) == 1
    assert Accuracy()(X, np.eye(3, dtype=int)[chosen]) == 1


def test_called_by_itself_a_metric_does_not_ask_where_it_makes_no_difference():
    yes = YES[:, 0]
    assert Accuracy()(yes, yes) == 1  # answers: 0 and 1
    assert Accuracy()(yes > 0, yes) == 1
    assert Accuracy()(0.5 + 0.5 * yes - (1 - yes), yes) == 1  # below 0
    assert Accuracy()(0.9 * yes, yes) == 1
    assert Accuracy(threshold=0.5)(0.2 + 0.6 * yes, yes) == 1


# Probabilities ------------------------------------------------------------------------------------


def test_probabilities_of_a_network_alone():
    net = network("`Dense`", 3)
    found = net.predict(X, 7, probabilities=cross_entropy)
    np.testing.assert_allclose(found, softmax(X), rtol=1e-12)
    assert net.predict(X, probabilities=False) is not None
    with pytest.raises(ValueError, match=r"write predict.x, probabilities=xpnn.cross_entropy"):
        net.predict(X, probabilities=True)
    with pytest.raises(ValueError, match="leave probabilities out"):
        net.predict(X, probabilities=mean_squared_error)
    with pytest.raises(ValueError, match="give it an attribute outputs"):
        net.predict(X, probabilities=your_loss)
    with pytest.raises(ValueError, match=r"leave Softmax\(\) out"):
        network("`Softmax`", 3).predict(X, probabilities=cross_entropy)


def test_probabilities_are_for_true_or_false():
    with pytest.raises(TypeError, match="wants probabilities to be True or False"):
        trainer("`Dense`", cross_entropy, 3).predict(X, probabilities="softmax")


def test_a_text_is_not_drawn_from_the_softmax_of_probabilities():
    layers = [Embedding(5, 4), Dense(5), Softmax()]
    writer = Network(layers, (6,))
    with pytest.raises(ValueError, match="leave the last layer out, or write temperature=0"):
        xpnn.generate(writer, [1, 2], 3)
    xpnn.generate(writer, [1, 2], 3, temperature=0)


def test_a_softmax_of_one_unit_is_refused_in_the_guide():
    with pytest.raises(ValueError, match="write Sigmoid in its place"):
        guide.OutputLayer(1, guide.InputLayer([[0.0, 1.0]]), Softmax)
