"""``"torch:numpy"``: steps of tensors that NumPy computes are NumPy's, bit for bit and in place."""

import contextlib
import copy
import functools
import threading

import numpy as np
import pytest

from tests.conftest import needs
from tests.training.callbacks.test_curves import NETWORKS
from xpnn import L2, SGD, Accuracy, Adam, ShapeError, Trainer, cross_entropy, mean_squared_error
from xpnn.backends import get_backend
from xpnn.backends.torch.by_numpy import StepByNumpy
from xpnn.layers import Dense, Dropout, Layer, Tanh
from xpnn.network import Network
from xpnn.training import make_train_step

pytestmark = needs("torch")


class Scaled(Layer):
    """Doubles what it gets, by a function of its own, and counts its calls."""

    calls = 0

    def __init__(self, double):
        super().__init__()
        self.double = double

    def forward(self, z, training=False):
        Scaled.calls += 1
        return self.double(z)

    def backward(self, delta):
        return self.double(delta)


def mlp(spec="torch:numpy", *more, dtype="float32"):
    layers = [Dense(40), Tanh(), *more, Dropout(0.3), Dense(3)]
    return Network(layers, (20,), spec, seed=1, dtype=dtype)


def trainer(network, compile=None):
    return Trainer(network, mean_squared_error, Adam(0.01, epsilon=1e-2), compile=compile)


def batches(count, dtype=np.float32):
    rng = np.random.default_rng(0)
    sizes = [4 if k % 3 == 2 else 6 for k in range(count)]
    return [tuple(rng.standard_normal((size, n)).astype(dtype) for n in (20, 3)) for size in sizes]


def losses(one, count=6, dtype=np.float32):
    read = one.network.backend.to_numpy
    return [float(read(one.step(x, y))) for x, y in batches(count, dtype)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_numpy_bit_for_bit(name, dtype):
    make, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, *shape)).astype(dtype), rng.integers(0, 4, 50)
    trained = []
    for spec in ("numpy", "torch:numpy"):
        network = Network(make(), shape, spec, seed=2, dtype=dtype)
        one = Trainer(network, cross_entropy, Adam(0.01), metrics=[Accuracy()])
        history = one.fit(x, y, epochs=3, batch_size=16, validation=0.1, progress=False)
        trained.append([history.epochs, one.evaluate(x, y), network.numpy_arrays()])
    assert isinstance(one._train_step.run, StepByNumpy)
    assert one._train_step.run.replayed.recordable
    assert one._eval_step.replayed.recordable
    np.testing.assert_equal(*trained)


def test_tensors_go_in_and_come_out_and_stay_where_they_are():
    import torch

    one, start = trainer(mlp()), [3, 4]
    losses(one, start[0])
    slots = [part for part in one.opt_state.values() if isinstance(part, dict)]
    held = [one.network.params, *map(dict, slots)]
    before = [{name: (id(t), t.data_ptr(), t.clone()) for name, t in d.items()} for d in held]
    loss = one.step(*batches(1)[0])
    assert isinstance(loss, torch.Tensor)
    assert loss.shape == ()
    for now, then in zip([one.network.params, *slots], before, strict=True):
        for name, (number, place, values) in then.items():
            assert type(now[name]) is torch.Tensor
            assert (id(now[name]), now[name].data_ptr()) == (number, place)
            assert not torch.equal(now[name], values)
    kept = float(loss)
    losses(one)
    assert float(loss) == kept


def test_two_sets_of_parameters_are_recorded_once_each():
    network, optimizer = mlp(), Adam(0.01)
    step = make_train_step(network, mean_squared_error, optimizer)
    backend = network.backend

    def start(seed):
        fresh = copy.deepcopy(network)
        fresh.params = {name: param * seed for name, param in fresh.params.items()}
        return fresh.params, fresh.state, optimizer.init(fresh.params, backend)

    sets, found = [start(1), start(2)], ([], [])
    x, y = map(backend.asarray, batches(1)[0])
    programs = []
    for k in (0, 0, 1, 1, 0, 1, 0, 1):
        *sets[k], loss = step(*sets[k], x, y)
        found[k].append(float(loss))
        programs += [one for one in step.replayed.programs if one not in programs]
    assert len(programs) == 2
    for k in (0, 1):
        held, wanted = start(k + 1), []
        plain = make_train_step(network, mean_squared_error, optimizer, compile=False)
        for _ in range(4):
            *held, loss = plain(*held, x, y)
            wanted.append(float(loss))
        np.testing.assert_allclose(found[k], wanted, rtol=1e-5)


def test_a_tensor_that_got_other_memory_is_read_there():
    import torch

    pair = [
        trainer(Network([Dense(40), Tanh(), Dense(40), Dense(3)], (20,), spec))
        for spec in ("torch:numpy", "torch")
    ]
    for one in pair:
        losses(one, 3)
        for param in one.network.params.values():
            param.data = torch.full_like(param, 0.01)
        losses(one, 1)
        square = one.network.params["2.dense.weight"]
        square.data = square.data.T  # at the same place
    np.testing.assert_allclose(*map(losses, pair), rtol=1e-5)
    for one, other in zip(*(one.network.params.values() for one in pair), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("compile", [None, True, False])
def test_an_own_layer_sees_tensors_at_every_step(compile, caplog):
    import torch

    def double(z):
        return torch.mul(z, 2)

    caplog.set_level("INFO", logger="xpnn")
    one = trainer(mlp("torch:numpy", Scaled(double)), compile)
    Scaled.calls = 0
    found = losses(one)
    assert Scaled.calls == 6
    assert found == losses(trainer(mlp("torch", Scaled(double)), compile=False))
    assert not caplog.records


def test_a_method_put_in_place_of_a_layers_own_is_called_at_every_step():
    one, seen = trainer(mlp()), []
    own = one.network.layers[0].forward
    one.network.layers[0].forward = lambda z, training=False: (seen.append(1), own(z, training))[1]
    assert losses(one) == losses(trainer(mlp("torch")))
    assert len(seen) == 6


class Clamped(Network):
    """Hands back deltas that it clamps by a function of PyTorch's."""

    def backward(self, delta, to_input=True):
        import torch

        return super().backward(torch.clamp(delta, -0.01, 0.01), to_input)


@functools.wraps(mean_squared_error)
def halved_loss(predictions, targets, **options):
    import torch

    value, delta = mean_squared_error(predictions, targets, **options)
    return torch.mul(value, 0.5), torch.mul(delta, 0.5)


def clamped(spec):
    network = Clamped([Dense(40), Tanh(), Dense(3)], (20,), spec, seed=1)
    return trainer(network)


def with_halved_loss(spec):
    return Trainer(mlp(spec), halved_loss, Adam(0.01))


def with_own_choice_of_decays(spec):
    optimizer = SGD(0.1, weight_decay=0.1, decays=lambda name, param: param.numel() > 40)
    return Trainer(mlp(spec), mean_squared_error, optimizer)


def with_own_rule(spec):
    import torch

    optimizer = SGD(0.1)
    optimizer.rule = lambda xp, w, g, *_, rate, **__: (torch.sub(w, g, alpha=float(rate)),)
    return Trainer(mlp(spec), mean_squared_error, optimizer)


@pytest.mark.parametrize(
    "make", [clamped, with_halved_loss, with_own_choice_of_decays, with_own_rule]
)
def test_whatever_part_is_the_users_own_sees_tensors(make):
    assert losses(make("torch:numpy")) == losses(make("torch"))


def test_layers_are_neither_copied_nor_started_again():
    calls = []

    def start(shape, rng):
        calls.append(shape)
        return rng.standard_normal(shape) / 8

    layer = Dense(40, weight_init=start)
    layer.lock = threading.Lock()  # which cannot be copied
    one = trainer(Network([layer, Dropout(0.3), Dense(3)], (20,), "torch:numpy"))
    for rate in (0.3, 0.1):
        one.network.layers[1].rate = rate
        losses(one)
    assert one._train_step.run.replayed.recordable
    assert len(calls) == 1


def test_layers_are_recorded_as_they_are():
    found = []
    for spec in ("torch:numpy", "numpy"):
        network = Network([Dense(40).regularize(L2(0.001)), Dropout(0.3), Dense(3)], (20,), spec)
        found.append(losses(trainer(network)))
        network.layers[0].regularizers[0].strength = 0.1
        network.layers[1].seed = 77
        found.append(losses(trainer(network)))
    assert found[:2] == found[2:]
    assert found[1] != found[0]


def test_layers_compute_on_tensors_again_behind_a_step():
    one = trainer(mlp())
    x, y = batches(1)[0]
    for batch in ((x, y), (x[:, :19], y)):
        with contextlib.suppress(ShapeError):
            one.step(*batch)
        assert one.network.backend is get_backend("torch:numpy")
        assert all(layer.backend is one.network.backend for layer in one.network.all_layers)
        plain = one.network.to("torch")
        assert one.network(x).tolist() == plain(x).tolist()


def test_bfloat16_stays_with_pytorch(caplog):
    caplog.set_level("INFO", logger="xpnn")
    pair = [trainer(mlp(spec, dtype="bfloat16")) for spec in ("torch:numpy", "torch")]
    found, wanted = ([float(one.step(x, y)) for x, y in batches(4)] for one in pair)
    assert found == wanted
    assert [record.name for record in caplog.records] == ["xpnn"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_stays_with_pytorch(dtype):
    pair = [
        Trainer(mlp(spec), mean_squared_error, Adam(0.01), precision=dtype)
        for spec in ("torch:numpy", "torch")
    ]
    assert losses(pair[0]) == losses(pair[1])


def test_one_batch_that_numpy_cannot_read_does_not_decide_for_others():
    import torch

    one, plain = trainer(mlp()), trainer(mlp("torch"))
    for k, (x, y) in enumerate(batches(6)):
        x = torch.from_numpy(x)
        x = x.bfloat16() if k in (0, 3) else x
        np.testing.assert_allclose(*(float(t.step(x, y)) for t in (one, plain)), rtol=1e-5)
    assert one._train_step.run.replayed.programs


def test_a_bad_batch_changes_nothing_and_later_ones_are_replayed():
    one, undisturbed = trainer(mlp()), trainer(mlp())
    for k, (x, y) in enumerate(batches(5)):
        if k in (0, 2, 3):
            with pytest.raises(ShapeError, match="20"):
                one.step(x[:, :19], y)
        assert float(one.step(x, y)) == float(undisturbed.step(x, y))
    assert one._train_step.run.replayed.recordable


def test_a_changed_hyperparameter_is_used():
    pair = [trainer(mlp(spec)) for spec in ("torch:numpy", "numpy")]
    for rate, factor in ((0.3, 0.01), (0.6, 0.01), (0.0, 0.1)):
        for one in pair:
            one.network.layers[2].rate = rate
            one.optimizer.hyper["rate"] = factor
        assert losses(pair[0]) == losses(pair[1])


def test_overflow_is_silent_as_with_tensors():
    one = trainer(mlp())
    x, y = batches(1)[0]
    assert np.isinf(float(one.step(x, 1e30 * y)))  # a warning is an error here


def test_it_is_a_backend_of_tensors_on_the_cpu():
    backend, plain = get_backend("torch:numpy"), get_backend("torch")
    assert repr(backend) == "<backend torch:numpy>"
    assert backend.device == plain.device
    assert backend.owns(plain.asarray([1.0]))
    assert copy.deepcopy(backend) is backend
    there = trainer(mlp("numpy"))
    losses(there)
    moved = there.to("torch:numpy")
    assert losses(moved) == losses(there)
