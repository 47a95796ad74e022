"""network.freeze and unfreeze: what patterns match, and that nothing of it moves in training."""

import numpy as np
import pytest

from xpnn import (
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Embedding,
    LayerNorm,
    MultiHeadAttention,
    Network,
    ReLU,
    Residual,
    Sequential,
    TiedDense,
    Trainer,
    WeightNorm,
    mean_squared_error,
)


def nested():
    body = Residual([Dense(3), ReLU(), Sequential([BatchNorm(), Dense(3)])])
    return Network([Dense(3), body, Dense(2)], (3,), seed=2)


INNER = "1.residual.body.2.sequential.0.batchnorm"
LEARNING = ["0.dense", "1.residual.body.0.dense", INNER, INNER[:-11] + "1.dense", "2.dense"]


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ([], LEARNING),
        (["0.dense"], ["0.dense"]),
        (["0.*"], ["0.dense"]),
        (["0.*", "2.*"], ["0.dense", "2.dense"]),
        (["1.*"], LEARNING[1:4]),
        (["1.residual.body"], LEARNING[1:4]),
        (["*batchnorm*"], [INNER]),
        (["0.dense.weight", "0.dense.bias"], ["0.dense"]),
        (["*.weight", "*.bias", "*.scale", "*.shift"], LEARNING),
        (["*.[02].dense"], [LEARNING[1]]),
        (["*"], LEARNING),
    ],
)
def test_patterns_match_names_of_layers_and_of_parameters(patterns, frozen):
    network = nested()
    assert network.freeze(*patterns) == frozen
    kept = {name for name in network.params if name.rpartition(".")[0] in frozen}
    assert network.trainable() == network.params.keys() - kept
    assert [name for name, one in network.walk() if one.params and not one.trainable] == frozen
    assert network.unfreeze(*patterns) == frozen
    assert network.trainable() == {*network.params}
    assert all(layer.trainable for layer in network.all_layers)


def test_what_lies_in_a_frozen_container_is_unfrozen_by_itself():
    network = nested()
    network.layers[1].trainable = False
    assert network.unfreeze("*batchnorm") == [INNER]
    assert network.trainable() == {
        f"{name}.{key}"
        for name, layer in network.walk()
        for key in layer.params
        if name in ("0.dense", INNER, "2.dense")
    }
    network.root.trainable = False
    network.unfreeze("2.*")
    assert network.trainable() == {"2.dense.weight", "2.dense.bias"}
    assert network.freeze("2.*") == ["2.dense"]
    assert not network.root.trainable


def test_a_tied_array_is_frozen_with_the_layer_that_has_it():
    ids = Embedding(5, 4)
    network = Network([ids, TiedDense(5, ids)], (3,))
    network.freeze("1.*")
    assert network.trainable() == {"0.embedding.weight"}


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("1.relu", ValueError, r"'1.relu' matches no parameter.*are the layers 0.dense, 2.weightn"),
        ("dense", ValueError, "matches no parameter, and no layer that has some"),
        (["0.*"], TypeError, r"wanted patterns of names, such as '0.\*', got \['0.\*'\]"),
        ("*.bias", ValueError, "of '0.dense' 0.dense.bias would be frozen and 0.dense.weight not"),
        ("*.length", ValueError, "of '2.weightnorm' 2.weightnorm.length would be frozen and 2.we"),
    ],
)
def test_a_pattern_that_cannot_be_followed_changes_nothing(pattern, error, words):
    network = Network([Dense(3), ReLU(), WeightNorm(Dense(3))], (3,))
    with pytest.raises(error, match=words):
        network.freeze(pattern)
    assert network.trainable() == {*network.params}


def test_no_layer_is_unfrozen_in_parts():
    network = Network([Dense(3), WeightNorm(Dense(3))], (3,))
    network.freeze()
    with pytest.raises(
        ValueError, match=r"of '0.dense' 0.dense.weight would be frozen and 0.dense"
    ):
        network.unfreeze("1.*", "0.dense.bias")
    assert not network.trainable()
    assert network.unfreeze("*.length") == ["1.weightnorm"]
    assert network.trainable() == {"1.weightnorm.length"}


def test_many_names_are_cut_short():
    network = Network([Dense(3) for _ in range(12)], (3,))
    with pytest.raises(ValueError, match=r"the layers 0.dense, .*, 7.dense and 4 more$"):
        network.freeze("none")


def test_weights_and_slots_of_what_is_frozen_stay_bit_for_bit(backend):
    """With decay, which would act on weights whose gradient is 0."""
    layers = [Dense(6), LayerNorm(), Residual([MultiHeadAttention(2)]), Dense(2)]
    network = Network(layers, (4, 3), backend, seed=1)
    trainer = Trainer(network, mean_squared_error, AdamW(0.01, weight_decay=0.1))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 4, 3)), random.normal(size=(16, 4, 2))

    def fit():
        before = {**slots(trainer), **network.numpy_arrays()}
        trainer.fit(x, y, epochs=2, batch_size=8, progress=False)
        now = {**slots(trainer), **network.numpy_arrays()}
        begin = {name: np.zeros_like(one) for name, one in now.items()} | before
        return {name for name, one in now.items() if not np.array_equal(one, begin[name])}

    def named(*params):
        return {f"{slot}{name}" for name in params for slot in ("", "m ", "v ")}

    network.freeze()
    network.unfreeze("3.*")
    assert fit() == named("3.dense.weight", "3.dense.bias")
    network.unfreeze("*attention")
    assert fit() == named(*network.trainable()) > named("3.dense.weight", "3.dense.bias")
    network.freeze("3.*")
    assert fit() == named(*network.trainable())


def slots(trainer):
    if trainer.opt_state is None:
        return {}
    move = trainer.network.backend.to_numpy
    return {
        f"{slot} {name}": np.array(move(one))
        for slot in ("m", "v")
        for name, one in trainer.opt_state[slot].items()
    }


@pytest.mark.parametrize("compile", [None, False])
def test_the_next_step_knows_of_it(compile):
    network = nested()
    trainer = Trainer(network, mean_squared_error, Adam(0.1), compile=compile)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    def changed():
        before = network.numpy_arrays()
        trainer.step(x, x[:, :2])
        return {k for k in network.params if not np.array_equal(network.params[k], before[k])}

    assert changed() == {*network.params}
    network.freeze("[01].*")
    assert changed() == {"2.dense.weight", "2.dense.bias"}
    network.unfreeze()
    assert changed() == {*network.params}
