"""Rules that see a whole parameter: in training, of kernels, and one of a user's."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.optimizers.table import gradients, moved, on_host, start, trained
from tests.optimizers.test_own_optimizer import skip_unless_it_compiles
from xpnn import Checkpoint, Conv1D, Dense, Flatten, Network, ReLU, Trainer, mean_squared_error
from xpnn.errors import BackendUnavailable
from xpnn.optimizers import LAMB, Adafactor, AdamW, ClipByGlobalNorm, Cosine, Muon, Optimizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its compiler

each_kind = pytest.mark.parametrize("kind", [LAMB, Adafactor, Muon])


def data():
    x = np.random.default_rng(7).normal(size=(24, 5, 2)).astype(np.float32)
    return x, np.sin(x[:, 0, :1])


def trainer_of(backend, kind, **options):
    layers = [Conv1D(3, 2), ReLU(), Flatten(), Dense(1)]
    network = Network(layers, (5, 2), backend, seed=1)
    optimizer = kind(Cosine(0.1, steps=90), weight_decay=0.01, clip=ClipByGlobalNorm(1.0))
    return Trainer(network, mean_squared_error, optimizer, **options)


def fit(trainer, epochs=6, **options):
    return trainer.fit(*data(), epochs=epochs, batch_size=8, progress=False, **options)["loss"]


@each_kind
def test_a_network_learns_with_it_compiled_and_resumed(backend, kind, tmp_path):
    if backend.name == "array-api-strict":
        pytest.skip("its steps are NumPy's, call by call; test_contract.py makes the calls")
    losses = fit(trainer_of(backend, kind), 20)
    assert losses[-1] < 0.3 * losses[0]
    by_calls = "numpy" if backend.name == "jax" else backend  # where JAX takes seconds
    np.testing.assert_allclose(
        losses, fit(trainer_of(by_calls, kind, compile=False), 20), rtol=5e-3, atol=1e-4
    )
    fit(trainer_of(backend, kind), 3, callbacks=[Checkpoint(tmp_path)])
    resumed = fit(trainer_of(backend, kind), resume=tmp_path)
    # CuPy's graphs are captured at another step then, and their products round otherwise
    np.testing.assert_allclose(resumed, losses[:6], rtol=1e-6 if backend.name == "cupy" else 0)


@each_kind
def test_it_learns_in_mixed_precision(backend, kind):
    try:
        trainer = trainer_of(backend, kind, precision="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    losses = fit(trainer, 20)
    assert losses[-1] < 0.3 * losses[0]
    for slot in trainer.optimizer.slots:
        kept = on_host(trainer.opt_state[slot], backend).values()
        assert {one.dtype.name for one in kept} == {"float32"}


@each_kind
def test_a_step_that_overflows_is_skipped(backend, kind):
    try:
        trainer = trainer_of(backend, kind, precision="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    x, y = data()
    trainer.step(x[:8], y[:8])
    before = trainer.network.numpy_arrays()
    slots = {slot: on_host(trainer.opt_state[slot], backend) for slot in trainer.optimizer.slots}
    trainer.step(x[:8], y[:8] * 1e8)
    assert int(backend.to_numpy(trainer.opt_state["skipped_steps"])) >= 1
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    for slot, arrays in slots.items():
        for name, array in on_host(trainer.opt_state[slot], backend).items():
            np.testing.assert_array_equal(array, arrays[name])


def kernels(steps):
    rng = np.random.default_rng(3)
    draw = lambda: {"kernel": rng.normal(size=(3, 2, 4)).astype(np.float32)}  # noqa: E731
    return draw(), [draw() for _ in range(steps)]


@needs("torch")
def test_adafactor_factors_the_last_two_axes_of_a_kernel_as_torch_does(backend):
    import torch

    begin, grads = kernels(5)
    param = torch.nn.Parameter(torch.from_numpy(begin["kernel"].astype(np.float64)))
    theirs = torch.optim.Adafactor([param], lr=0.05, eps=(1e-15, 1e-3), weight_decay=0.1)
    for one in grads:
        param.grad = torch.from_numpy(one["kernel"].astype(np.float64))
        theirs.step()
    params, opt_state = trained(Adafactor(0.05, weight_decay=0.1), backend, begin, grads)
    np.testing.assert_allclose(params["kernel"], param.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert opt_state["rows"]["kernel"].shape == (3, 2, 1)
    assert opt_state["columns"]["kernel"].shape == (3, 1, 4)
    assert opt_state["v"] == {}


def test_muon_takes_a_kernel_for_a_matrix_and_leaves_others_to_adamw(backend):
    begin, grads = kernels(5)
    params, _ = trained(Muon(0.05), backend, begin, grads)
    flat = [{"kernel": one["kernel"].reshape(6, 4)} for one in (begin, *grads)]
    expected, _ = trained(Muon(0.05), backend, flat[0], flat[1:])
    np.testing.assert_allclose(params["kernel"].reshape(6, 4), expected["kernel"], atol=1e-6)
    muon = Muon(0.05, weight_decay=0.1, matrices=lambda name, _: name != "weight")
    params, opt_state = trained(muon, backend, start("float32"), gradients("float32"))
    expected, _ = trained(
        AdamW(0.05, weight_decay=0.1), backend, start("float32"), gradients("float32")
    )
    for name, array in params.items():
        np.testing.assert_array_equal(array, expected[name])
    assert opt_state["v"].keys() == {"weight", "bias"}


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 1)])
def test_muon_s_steps_are_orthogonal(backend, shape):
    """Singular values between 0.68 and 1.21, the range of the iteration behind its slope at 0."""
    grad = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    begin = {"w": np.zeros(shape, np.float32)}
    params, _ = trained(Muon(1.0, weight_decay=0.0), backend, begin, [{"w": grad}])
    values = np.linalg.svd(-params["w"] / (0.2 * np.sqrt(max(shape))), compute_uv=False)
    assert np.all((values > 0.65) & (values < 1.25))


@each_kind
def test_parameters_and_gradients_of_zero_stay_finite(backend, kind):
    zeros = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.float32)}
    params, _ = trained(kind(0.1), backend, zeros, [zeros, zeros])
    for array in params.values():
        np.testing.assert_array_equal(array, 0)
    ones = {name: np.ones_like(array) for name, array in zeros.items()}
    params, _ = trained(kind(0.1), backend, zeros, [zeros, ones])
    for array in params.values():
        assert np.all((array > -1) & (array < 0))


class Normalized(Optimizer):
    """A user's: each parameter steps along its gradient, by the rate."""

    def sees_whole(self, name, param):
        return True

    def rule_of_whole(self, xp, w, g, *, rate):
        return (w - rate * g / xp.sqrt(xp.sum(g * g)),)


@pytest.mark.parametrize("compile", [None, True])
def test_one_of_a_user_s_follows_its_formula(backend, compile):
    skip_unless_it_compiles(backend, compile)
    optimizer, one = Normalized(0.1, weight_decay=0.5), gradients("float32", 1)[0]
    update = backend.compiled(optimizer.make_update(backend), wanted=compile)
    with backend.on_device():
        params = moved(start("float32"), backend)
        after, _ = update(params, moved(one, backend), optimizer.init(params, backend))
        for name, array in on_host(after, backend).items():
            g = one[name] + 0.5 * start()[name]
            expected = start()[name] - 0.1 * g / np.linalg.norm(g)
            np.testing.assert_allclose(array, expected, rtol=1e-5)
