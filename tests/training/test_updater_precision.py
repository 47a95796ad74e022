"""Updater in half precision: a Trainer's steps, the scale where it belongs, skipped steps whole."""

import numpy as np
import pytest

import xpnn
from tests.training.stepping.test_precision import BOTH, HALVES, dtype_of
from xpnn import (
    L1,
    L2,
    SGD,
    Adam,
    BatchNorm,
    ClipByGlobalNorm,
    Cosine,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianSample,
    MaxNorm,
    MixedPrecision,
    MultiHeadAttention,
    Network,
    ReLU,
    Reshape,
    Tanh,
    Trainer,
    Updater,
)
from xpnn.errors import BackendUnavailable, XpnnError

rng = np.random.default_rng(5)
X = rng.standard_normal((16, 6)).astype(np.float32)
Y = rng.standard_normal((16, 2)).astype(np.float32)


@pytest.fixture(params=BOTH)
def half(request, backend):
    """Each half precision that the backend has."""
    if request.param not in HALVES.get(backend.name, BOTH):
        pytest.skip(f"{backend.name} has no {request.param}")
    return request.param


@pytest.fixture
def float16(backend):
    """The backends that have float16."""
    if "float16" not in HALVES.get(backend.name, BOTH):
        pytest.skip(f"{backend.name} has no float16")
    return backend


def network(backend):
    """With state of floats and of counts, a term of its own, penalties, constraints, frozen."""
    layers = [
        *(Dense(8).regularize(L2(0.1)), BatchNorm(), Dropout(0.2), Dense(8)),
        *(GaussianSample(0.2), Dense(6).regularize(MaxNorm(0.5)), Tanh()),
        *(Dense(2).regularize(L1(0.05), L2(0.02)),),
    ]
    made = Network(layers, (6,), backend)
    made.freeze("5.*")
    return made


def attention(backend):
    layers = [Dense(12), ReLU(), Reshape((3, 4)), MultiHeadAttention(2), Flatten(), Dense(2)]
    return Network(layers, (6,), backend)


def rule():
    """Not Adam, which makes whole steps of what is rounding: biases before BatchNorm."""
    return SGD(
        Cosine(0.1, steps=8),
        momentum=0.9,
        weight_decay=0.1,
        clip=ClipByGlobalNorm(0.5),
        factors={"0.*": 0.5},
    )


def steps_of_updater(net, precision, inputs, **options):
    """The losses of steps on some inputs."""
    backend, updater, losses = net.backend, Updater(net, rule(), precision=precision, **options), []
    y = backend.asarray(Y)
    terms = [layer for layer in net.layers if layer.adds]
    with backend.on_device():
        for x in inputs:
            predictions = updater.forward(backend.asarray(x))
            assert dtype_of(predictions) == "float32"
            value, delta = xpnn.mean_squared_error(predictions, y, backend=backend)
            terms_now = [float(backend.to_numpy(layer.cache["term"])) for layer in terms]
            updater.backward(delta)
            value = float(backend.to_numpy(value)) + sum(terms_now)
            losses.append(value + float(backend.to_numpy(updater.step())))
    return losses, updater


def steps_of_trainer(net, precision, inputs, **options):
    backend = net.backend
    trainer = Trainer(net, xpnn.mean_squared_error, rule(), precision=precision, **options)
    y = backend.asarray(Y)
    losses = [trainer.step(backend.asarray(x), y) for x in inputs]
    return [float(backend.to_numpy(loss)) for loss in losses], trainer


def numbers(one, *names):
    found = {name: one.opt_state.get(name) for name in ("step", *names)}
    to_numpy = one.network.backend.to_numpy
    return {k: v if isinstance(v, int) else float(to_numpy(v)) for k, v in found.items()}


SCALE = "loss_scale", "good_steps", "skipped_steps"


@pytest.mark.parametrize(("make", "compile"), [(network, None), (attention, False)])
def test_the_curve_is_that_of_a_trainer(backend, half, make, compile):
    """In the same precision; in float16 with a step that overflows in the middle."""
    if backend.name == "jax" and (half == "float16") != (make is network):
        pytest.skip("JAX compiles for seconds; each network and each half is there once")
    inputs = [X, X[::-1].copy(), X * 1e6 if half == "float16" else X, X, X]
    precision = MixedPrecision(half, initial_scale=2.0**10, patience=2)
    nets = make(backend), make(backend)
    ours, updater = steps_of_updater(nets[0], precision, inputs, compile=compile)
    theirs, trainer = steps_of_trainer(nets[1], precision, inputs, compile=compile)
    close = {"rtol": 2e-2 if half == "bfloat16" else 3e-3, "atol": 1e-3}
    np.testing.assert_allclose(ours, theirs, **close)
    assert numbers(updater, *SCALE) == numbers(trainer, *SCALE)
    assert numbers(updater, *SCALE)["skipped_steps"] == (half == "float16")
    theirs_then = nets[1].numpy_arrays()
    for name, value in nets[0].numpy_arrays().items():
        exact = {"rtol": 0, "atol": 0} if backend.spec == "numpy" and compile is False else close
        np.testing.assert_allclose(value, theirs_then[name], err_msg=name, **exact)


def one_pass(updater, x=X, y=Y):
    backend = updater.network.backend
    predictions = updater.forward(backend.asarray(x))
    _, delta = xpnn.mean_squared_error(predictions, backend.asarray(y), backend=backend)
    return updater.backward(delta)


def test_layers_compute_in_half_precision_and_parameters_stay(backend, half):
    net = attention(backend)
    updater = Updater(net, Adam(0.01), precision=half)
    one_pass(updater)
    assert {dtype_of(net.layers[k].cache["Z"]) for k in (0, 5)} == {half}
    assert {*map(dtype_of, net.grads.values())} == {half}
    assert {*map(dtype_of, net.params.values())} == {"float32"}
    updater.step()
    assert {*map(dtype_of, net.params.values())} == {"float32"}


@pytest.mark.parametrize("scale", [1.0, 2.0**12])
def test_what_comes_back_is_free_of_the_scale(float16, scale):
    """So another network may take it for its delta."""
    backs = []
    for precision in (None, MixedPrecision(initial_scale=scale)):
        back = one_pass(Updater(attention(float16), SGD(0.1), precision=precision))
        assert dtype_of(back) == "float32"
        backs.append(float16.to_numpy(back))
    np.testing.assert_allclose(backs[1], backs[0], rtol=0.01, atol=1e-4)


def test_small_gradients_are_kept_by_the_scale(float16):
    """Below 6e-8, where float16 ends, on the way to the weights."""
    moved = []
    for precision in (MixedPrecision(initial_scale=1.0), MixedPrecision(initial_scale=2.0**14)):
        net = Network([Dense(1, use_bias=False)], (1,), float16)
        updater, before = Updater(net, SGD(1e6), precision=precision), net.numpy_arrays()
        updater.forward(float16.asarray(np.ones((1, 1), np.float32)))
        updater.backward(float16.asarray(np.full((1, 1), 1e-8, np.float32)))
        updater.step()
        moved += [one - before[name] for name, one in net.numpy_arrays().items()]
    assert moved[0] == 0
    assert moved[1] == pytest.approx(-1e-2, rel=1e-2)


def test_gradients_of_two_passes_and_ids(float16):
    """Sums of what is multiplied by the scale are multiplied by it; to ids nothing goes back."""
    ids, y = np.arange(8).reshape(8, 1) % 5, Y[:8]
    ends = []
    for precision in (None, MixedPrecision(initial_scale=256.0)):
        net = Network([Embedding(5, 4), Flatten(), Dense(2)], (1,), float16)
        updater, grads = Updater(net, SGD(0.5), precision=precision), []
        for part in (slice(0, 4), slice(4, 8)):
            assert one_pass(updater, ids[part], y[part]) is None
            grads.append(net.grads)
        updater.step({name: 0.5 * (grads[0][name] + grads[1][name]) for name in grads[0]})
        ends.append(net.numpy_arrays())
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=2e-3, atol=2e-3, err_msg=name)


def test_several_outputs_by_name(float16):
    ends = []
    for precision in (None, "float16"):
        x = xpnn.Input((6,))
        hidden = Dense(8)(x)
        outputs = {"a": Dense(1)(hidden), "b": Dense(2)(hidden)}
        net = Network(inputs=x, outputs=outputs, backend=float16)
        updater = Updater(net, SGD(0.5), precision=precision)
        out = updater.forward(float16.asarray(X))
        assert {key: dtype_of(value) for key, value in out.items()} == dict.fromkeys(
            "ab", "float32"
        )
        updater.backward({key: value / 16 for key, value in out.items()})
        updater.step()
        ends.append(net.numpy_arrays())
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=2e-3, atol=2e-3, err_msg=name)


def small(backend):
    return Network([BatchNorm(), Dense(2)], (6,), backend)


def test_it_goes_on_from_a_file(float16, tmp_path):
    """With the scale as it was; and a Trainer of that precision reads it, too."""
    file = tmp_path / "run.safetensors"
    precision = MixedPrecision(initial_scale=2.0**6, patience=2)
    straight, first, again = (
        Updater(small(float16), Adam(0.05), precision=precision) for _ in range(3)
    )
    for k in range(6):
        one_pass(straight)
        straight.step()
        if k < 3:
            one_pass(first)
            first.step()
    first.save(file)
    one_pass(again)
    again.load(file)
    with pytest.raises(XpnnError, match=r"call updater\.forward\(x\) and updater\.backward"):
        again.step()  # those gradients were of another scale
    for _ in range(3):
        one_pass(again)
        again.step()
    assert numbers(again, *SCALE) == numbers(straight, *SCALE)
    assert numbers(again, *SCALE)["loss_scale"] == 2.0**9
    for name, value in straight.network.numpy_arrays().items():
        np.testing.assert_array_equal(again.network.numpy_arrays()[name], value, err_msg=name)
    trainer = Trainer(small(float16), xpnn.mean_squared_error, Adam(), precision=precision)
    trainer.load(file)
    assert numbers(trainer, *SCALE)["loss_scale"] == 2.0**7


def test_what_a_backend_does_not_have_is_said_plainly(backend):
    for half in (half for half in BOTH if half not in HALVES.get(backend.name, BOTH)):
        with pytest.raises(BackendUnavailable, match=f"does not compute in {half}; choose"):
            Updater(network(backend), SGD(), precision=half)


def test_what_a_loop_has_mixed_up():
    net = network("numpy")
    updater, before = Updater(net, SGD(0.1), precision="float16"), net.numpy_arrays()
    with pytest.raises(
        XpnnError, match=r"no gradients of .* call updater.forward\(x\) and updater"
    ):
        updater.step()
    with pytest.raises(XpnnError, match=r"in float16 needs what forward in float16 has kept"):
        updater.backward(Y)
    out = net.forward(X, training=True)
    with pytest.raises(XpnnError, match=r"call updater\.forward\(x\) first"):
        updater.backward(out)
    net.backward(out)
    with pytest.raises(XpnnError, match=r"which compute in float32 and know no loss scale"):
        updater.step()
    updater.forward(X)
    with pytest.raises(
        XpnnError, match=r"before the last updater\.forward; call updater\.backward"
    ):
        updater.step()
    net.predict(X)
    with pytest.raises(XpnnError, match=r"call updater\.forward\(x\) first"):
        updater.backward(out)
    for name, value in net.params.items():
        np.testing.assert_array_equal(value, before[name])
    one_pass(updater)
    updater.step()
    assert updater.steps == 1
