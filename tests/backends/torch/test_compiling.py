"""Training compiled by PyTorch is training run one operation at a time."""

import shutil
import warnings

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import mean_squared_error
from xpnn.backends import get_backend
from xpnn.errors import CompileError, CompileWarning
from xpnn.layers import Dense, Dropout, Tanh
from xpnn.network import Network
from xpnn.optimizers import Adam, Exponential
from xpnn.training import Trainer

pytestmark = [
    needs("torch"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


def on_host(backend, one):
    if isinstance(one, dict):
        return {key: on_host(backend, part) for key, part in one.items()}
    return one if isinstance(one, int | float) else backend.to_numpy(one).copy()


def assert_close(found, wanted, where=""):
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, one in wanted.items():
            assert_close(found[key], one, f"{where}.{key}")
    elif isinstance(wanted, int):
        assert found == wanted, where
    else:
        assert np.asarray(found).dtype == np.asarray(wanted).dtype, where
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6, err_msg=where)


def test_compiled_steps_are_the_plain_ones(caplog, request):
    caplog.set_level("INFO", logger="xpnn")
    rng = np.random.default_rng(0)

    def make(compile):
        network = Network([Dense(8), Tanh(), Dropout(0.3), Dense(3)], (5,), "torch", seed=1)
        rate = Exponential(0.05, factor=0.5, steps=2)
        return Trainer(network, mean_squared_error, Adam(rate, epsilon=1e-2), compile=compile)

    pair = [make(compile) for compile in (True, False)]
    backend = pair[0].network.backend
    for k, size in enumerate((6, 6, 6, 4)):
        if size == 4:  # traced anew; what PyTorch's compiler makes of a graph is seen by then
            request.getfixturevalue("graphs_as_traced")
        x, y = (rng.standard_normal((size, n)).astype(np.float32) for n in (5, 3))
        values = [one.step(backend.asarray(x), backend.asarray(y)) for one in pair]
        assert_close(*(on_host(backend, value) for value in values), f"loss {k}")
        held = [(one.network.params, one.network.state, one.opt_state) for one in pair]
        for found, wanted in zip(*held, strict=True):
            assert_close(on_host(backend, found), on_host(backend, wanted), f"step {k}")
    step = pair[0]._train_step.run
    assert step.refusal is None
    assert len(step.units) == 2
    assert pair[0].network.state["2.dropout.draw"] == pair[0].opt_state["step"] == 4
    numbers = {k: type(v) for k, v in pair[0].opt_state.items() if not isinstance(v, dict)}
    assert numbers.pop("step") is int
    assert numbers
    assert set(numbers.values()) == {float}
    assert not caplog.records


def test_another_choice_is_another_unit(graphs_as_traced):
    backend = get_backend("torch")
    step = backend.compile(lambda x, flag: x * 2 if flag else x * 3)
    x = backend.asarray(np.ones(3, np.float32))
    for flag, wanted in ((True, 2), (False, 3)):
        np.testing.assert_array_equal(backend.to_numpy(step(x, flag)), wanted)


def test_without_a_compiler_it_is_refused(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # where nothing is compiled yet
    backend = get_backend("torch")
    x = backend.asarray(np.ones(3, np.float32))
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        with pytest.raises(CompileError, match=r"No working C\+\+ compiler"):
            backend.compile(lambda x: (x * 2 + 1) / 3, required=True)(x)
        step = backend.compile(lambda x: (x * 2 + 1) / 3)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", CompileWarning)
            found = [float(step(x)[0]) for _ in range(3)]
    assert found == [1.0] * 3
    assert ["compiler" in str(one.message) for one in said] == [True]
    assert said[0].category is CompileWarning


READS = {
    "a number": lambda torch, x: x * float(x.sum()),
    "an item": lambda torch, x: x * x.sum().item(),
    "a choice": lambda torch, x: x if x.sum() > 0 else -x,
    "a list": lambda torch, x: x * x.tolist()[0],
    "an array": lambda torch, x: x * torch.from_numpy(x.numpy()),
    "an array of NumPy's making": lambda torch, x: x * torch.from_numpy(np.asarray(x)),
    "a length": lambda torch, x: torch.arange(x[0]) * 1.0,
}


@pytest.mark.parametrize("name", READS)
def test_values_on_the_host_are_never_part_of_a_graph(name):
    import torch

    backend, read = get_backend("torch"), READS[name]
    x = backend.asarray(np.asarray([2.0, 3.0], np.float32))
    with pytest.raises(CompileError, match="a value is read on the host"):
        backend.compile(lambda x: read(torch, x), required=True)(x)
