"""class_weight="balanced": weights by how often each class occurs in the targets of a fit."""

from functools import partial

import numpy as np
import pytest

import xpnn
from xpnn import SGD, Concatenate, Dense, Input, Network, Trainer
from xpnn.errors import DataError, FileError, ShapeError
from xpnn.losses import balanced_weights
from xpnn.losses.weights import unbound

RNG = np.random.default_rng(1)
X = RNG.normal(size=(60, 4)).astype(np.float32)
LABELS = RNG.choice(3, 60, p=[0.7, 0.2, 0.1])
YES = (LABELS == 2).astype(np.float32)[:, None]
ROWS = np.eye(3, dtype=np.float32)[LABELS]


def sklearn_weights(labels):
    """n / (k count), written out."""
    numbers = np.unique(labels)
    return [len(labels) / (len(numbers) * np.sum(labels == one)) for one in numbers]


LOSSES = {  # loss, targets, the class of each item
    "labels": (xpnn.cross_entropy, LABELS, LABELS),
    "rows": (xpnn.focal, ROWS, LABELS),
    "ignored": (
        partial(xpnn.cross_entropy, ignore_index=-1),
        np.where(np.arange(60) % 4, LABELS, -1),
        LABELS[np.arange(60) % 4 > 0],
    ),
    "yes": (xpnn.binary_cross_entropy, YES, YES.ravel()),
    "true": (xpnn.binary_focal, YES > 0, YES.ravel()),
    "signs": (xpnn.hinge, 2 * YES - 1, YES.ravel()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_is_that_with_the_numbers_written_out(backend, name):
    loss, y, classes = LOSSES[name]
    results = []
    for weights in ("balanced", sklearn_weights(classes)):
        network = Network([Dense(1 if y.shape == YES.shape else 3)], (4,), backend, seed=0)
        trainer = Trainer(network, partial(loss, class_weight=weights), SGD(0.5))
        history = trainer.fit(X, y, epochs=2, batch_size=16, progress=False)
        results.append((history["loss"], trainer.loss.keywords["class_weight"]))
        assert unbound(trainer.loss) == unbound(partial(loss, class_weight=results[-1][1]))
    (found, numbers), (expected, written) = results
    assert numbers == pytest.approx(written, rel=1e-12)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_batches_are_counted_before_the_first_step(backend, name):
    """Of an iterable, NumPy's or the backend's own arrays; a training is that with the numbers."""
    loss, y, classes = LOSSES[name]
    own = backend.asarray(np.asarray(y))
    batches = [(X[:16], y[:16]), (X[16:40], own[16:40, ...]), (X[40:], y[40:])]
    results = []
    for weights in ("balanced", sklearn_weights(classes)):
        network = Network([Dense(1 if y.shape == YES.shape else 3)], (4,), backend, seed=0)
        trainer = Trainer(network, partial(loss, class_weight=weights), SGD(0.5))
        losses = trainer.fit(batches, epochs=2, progress=False)["loss"]
        results.append((losses, trainer.loss.keywords["class_weight"]))
    (found, numbers), (expected, written) = results
    assert numbers == pytest.approx(written, rel=1e-12)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.host_only
def test_batches_that_can_be_gone_through_once_are_not_counted():
    loss = partial(xpnn.cross_entropy, class_weight="balanced")
    trainer = Trainer(Network([Dense(3)], (4,)), loss, SGD(0.5))
    with pytest.raises(DataError, match=r"beside class_weight='balanced'.*got a list_iterator"):
        trainer.fit(iter([(X, LABELS)]), progress=False)
    assert trainer.loss is loss
    assert trainer.steps == 0
    with pytest.raises(ShapeError, match="batch 2: "):
        trainer.fit([(X, LABELS), (X[:, :3], LABELS)], progress=False)
    assert trainer.loss is loss
    assert trainer.steps == 0
    trainer.fit([(X, LABELS)], progress=False)  # as it says
    assert trainer.loss.keywords["class_weight"] == pytest.approx(sklearn_weights(LABELS))


@pytest.mark.host_only
def test_a_run_on_batches_is_resumed_with_the_same_numbers(tmp_path):
    def made():
        network = Network([Dense(3)], (4,), seed=0)
        return Trainer(network, partial(xpnn.cross_entropy, class_weight="balanced"), SGD(0.5))

    batches = [(X[:20], LABELS[:20]), (X[20:], LABELS[20:])]
    whole = made().fit(batches, epochs=4, progress=False)
    first = made()
    first.fit(batches, epochs=2, progress=False)
    first.save(tmp_path / "half.xpnn")
    resumed = made().fit(batches, epochs=4, progress=False, resume=tmp_path / "half.xpnn")
    assert resumed["loss"][-2:] == whole["loss"][2:]


@pytest.mark.host_only
def test_what_is_held_out_does_not_count():
    trainer = Trainer(
        Network([Dense(3)], (4,)),
        partial(xpnn.cross_entropy, class_weight="balanced"),
        SGD(0.1),
        seed=3,
    )
    y = np.array([0] * 20 + [1] * 20 + [2] * 20)
    trainer.fit(X, y, validation=0.4, progress=False)
    weights = trainer.loss.keywords["class_weight"]
    counts = [36 / (3 * weight) for weight in weights]
    assert sum(counts) == pytest.approx(36)
    assert counts == pytest.approx(np.round(counts))
    assert counts != pytest.approx([12] * 3)


@pytest.mark.host_only
def test_a_run_is_resumed_with_the_same_numbers(tmp_path):
    def made():
        network = Network([Dense(3)], (4,), seed=0)
        loss = partial(xpnn.cross_entropy, class_weight="balanced")
        return Trainer(network, loss, SGD(0.5))

    whole = made().fit(X, LABELS, epochs=4, progress=False)
    first = made()
    first.fit(X, LABELS, epochs=2, progress=False)
    first.save(tmp_path / "half.xpnn")
    resumed = made().fit(X, LABELS, epochs=4, progress=False, resume=tmp_path / "half.xpnn")
    assert resumed["loss"][-2:] == whole["loss"][2:]


@pytest.mark.host_only
@pytest.mark.parametrize("several", [False, True])
def test_in_a_graph_each_output_goes_by_its_own_targets(several):
    parts = [Input((2,), name="left"), Input((2,), name="right")]
    joined = Concatenate()(parts)
    alike = partial(xpnn.cross_entropy, class_weight="balanced")
    if several:
        ends = {"rare": Dense(1)(joined), "kind": Dense(3)(joined)}
        losses = {"kind": alike, "rare": partial(xpnn.binary_cross_entropy, class_weight=(1, 2))}
        y = {"kind": LABELS, "rare": YES}
    else:
        ends, losses, y = {"kind": Dense(3)(joined)}, alike, LABELS
    trainer = Trainer(Network(inputs=parts, outputs=ends), losses, SGD(0.1))
    trainer.fit((X[:, :2], X[:, 2:]), y, progress=False)
    found = trainer.loss.losses["kind"] if several else trainer.loss
    assert found.keywords["class_weight"] == pytest.approx(sklearn_weights(LABELS))
    streamed = Trainer(trainer.network, losses, SGD(0.1))
    targets = [{k: v[rows] for k, v in y.items()} if several else y[rows]
               for rows in (slice(0, 25), slice(25, 60))]  # fmt: skip
    inputs = [(X[rows, :2], X[rows, 2:]) for rows in (slice(0, 25), slice(25, 60))]
    streamed.fit(list(zip(inputs, targets, strict=True)), progress=False)
    again = streamed.loss.losses["kind"] if several else streamed.loss
    assert again.keywords["class_weight"] == found.keywords["class_weight"]


@pytest.mark.host_only
def test_a_fit_that_is_refused_leaves_the_loss_as_it_was(tmp_path):
    loss = partial(xpnn.cross_entropy, class_weight="balanced")
    first = Trainer(Network([Dense(3)], (4,)), loss, SGD(0.1))
    first.fit(X, LABELS, progress=False)
    first.save(tmp_path / "one.xpnn")
    second = Trainer(Network([Dense(3)], (4,)), loss, SGD(0.1))
    with pytest.raises(FileError):
        second.fit(X, np.roll(LABELS, 7)[::-1] // 2, epochs=2, resume=tmp_path / "one.xpnn")
    assert second.loss is loss


@pytest.mark.host_only
def test_without_all_targets_there_are_no_numbers():
    loss = partial(xpnn.cross_entropy, class_weight="balanced")
    trainer = Trainer(Network([Dense(3)], (4,)), loss, SGD(0.1))
    with pytest.raises(ValueError, match=r"worked out by Trainer\.fit .*; call fit first, or give"):
        trainer.evaluate(X, LABELS)
    counts = np.bincount(LABELS)
    trainer.loss = partial(xpnn.cross_entropy, class_weight=balanced_weights(counts))
    trainer.fit([(X, LABELS)], progress=False)
    trainer.evaluate(X, LABELS)


@pytest.mark.host_only
def test_a_class_that_does_not_occur_weighs_1():
    assert balanced_weights([2, 0, 6]) == (2.0, 1.0, 8 / 12)
    assert balanced_weights(np.array([5])) == (1.0,)
    with pytest.raises(ValueError, match=r"how often each class occurs, .*; count the targets"):
        balanced_weights([2, -1])
