"""Work grows as the number of layers does, and what a trainer took comes back when it is dropped.

Work is counted in lines of Python that run, which are as many on every computer; a loop in a single
line counts each time around. Where it is linear, each further layer takes as many as one before it.
"""

import copy
import gc
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest

import xpnn
from xpnn import (
    L2,
    Accuracy,
    Adam,
    BatchNorm,
    ClipByGlobalNorm,
    Dense,
    Dropout,
    LayerNorm,
    MaxNorm,
    Network,
    Parallel,
    ReLU,
    Residual,
    Tanh,
    TiedDense,
    Trainer,
)
from xpnn.backends.numpy.arena import Arena
from xpnn.saving import load_torch_weights, load_weights, save_torch_weights, save_weights
from xpnn.training.callbacks.diagnosis import first_bad_layer

pytestmark = pytest.mark.fault("growth of work and memory")

WIDTH, BATCH = 4, 24  # a matrix of few columns, which a replay may turn
FEW = 3  # blocks
TOLERANCE = 0.003  # what is linear is so to 0.0003
OF_LOOPS = 0.004  # how many calls are tried for a loop depends on those before it: 0.00295


def lines(function):
    """How many lines of Python ``function`` runs."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # what others left behind is not part of the work
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def plain(blocks):
    """Layers that have a counterpart in PyTorch."""
    return [layer for _ in range(blocks) for layer in (Dense(WIDTH), BatchNorm(), ReLU())]


def mixed(blocks):
    """Shortcuts, branches, ties, frozen layers, rules for weights, masks."""
    layers = [Dense(WIDTH)]
    for _ in range(blocks):
        frozen = Dense(WIDTH)
        frozen.trainable = False
        layers += [
            Residual([Dense(WIDTH).regularize(L2(1e-3), MaxNorm(3.0)), LayerNorm(), Tanh()]),
            Parallel([Dense(WIDTH), Dense(WIDTH)], merge="sum"),
            frozen,
            Dropout(0.1),
            TiedDense(WIDTH, layers[0]),
        ]
    return layers


def steps(blocks, spec):
    """What runs on the backend, by name."""
    x = np.linspace(-1, 1, BATCH * WIDTH, dtype="float32").reshape(BATCH, WIDTH)
    y = np.arange(BATCH) % WIDTH
    network = Network(mixed(blocks), (WIDTH,), spec)
    optimizer = Adam(1e-3, clip=ClipByGlobalNorm(1.0), weight_decay=1e-4)
    trainer = Trainer(network, xpnn.cross_entropy, optimizer, metrics=[Accuracy()])
    own = [network.backend.asarray(one) for one in (x, y)]
    return {
        "first step": lambda: trainer.step(*own),
        "second step": lambda: trainer.step(*own),
        "third step": lambda: trainer.step(*own),
        "evaluate": lambda: trainer.evaluate(x, y),
        "predict": lambda: network.predict(x),
        "diagnosis": lambda: first_bad_layer(network, xpnn.cross_entropy, *own),
        "explain": lambda: xpnn.explain(network, x, y, xpnn.cross_entropy),
    }


def deeds(blocks, folder):
    """What is done on the host, by name."""
    layers = mixed(blocks)
    network, pytorch = Network(layers, (WIDTH,)), Network(plain(blocks), (WIDTH,))
    optimizer = Adam(1e-3)
    trainer = Trainer(network, xpnn.cross_entropy, optimizer)
    x, y = np.ones((BATCH, WIDTH), "float32"), np.zeros(BATCH, int)
    trainer.step(x, y)
    seen = xpnn.explain(network, x, y, xpnn.cross_entropy)
    return {
        "layers": lambda: mixed(blocks),
        "build": lambda: Network(mixed(blocks), (WIDTH,)),
        "trainer": lambda: Trainer(network, xpnn.cross_entropy, optimizer),
        "summary": lambda: str(network.summary(optimizer)),
        "picture": lambda: network.draw(folder / "network.svg"),
        "repr": lambda: repr(network),
        "x-ray as text": lambda: str(seen),
        "x-ray as data": lambda: seen.data(),
        "save": lambda: network.save(folder / "model"),
        "load": lambda: xpnn.load(folder / "model"),
        "save weights": lambda: save_weights(network, folder / "weights"),
        "load weights": lambda: load_weights(network, folder / "weights"),
        "load what fits": lambda: load_weights(network, folder / "weights", partial=True),
        "save for PyTorch": lambda: save_torch_weights(pytorch, folder / "torch"),
        "load from PyTorch": lambda: load_torch_weights(pytorch, folder / "torch"),
        "save checkpoint": lambda: trainer.save(folder / "checkpoint"),
        "load checkpoint": lambda: trainer.load(folder / "checkpoint"),
        "copy": lambda: copy.deepcopy(network),
        "pickle": lambda: pickle.loads(pickle.dumps(network)),
        "move": lambda: trainer.to("numpy"),
        "another head": lambda: network.with_head([Dense(2)]),
        "freeze": lambda: network.freeze("1.*", "*.body.0.dense.weight", "*.body.0.dense.bias"),
    }


def run(by_name):
    for function in by_name.values():
        function()


def counted(by_name):
    return {name: lines(function) for name, function in by_name.items()}


def excess(work, *arguments, tolerance=TOLERANCE):
    """By how much the later layers take more than the earlier ones, by name; 0 where linear."""
    run(work(1, *arguments))  # what is made once is made
    one, two, four = (counted(work(k * FEW, *arguments)) for k in (1, 2, 4))
    found = {name: (four[name] - two[name]) / (2 * (two[name] - one[name])) - 1 for name in one}
    return {name: share for name, share in found.items() if share > tolerance}


def test_steps_take_as_much_longer_as_there_are_more_layers(backend):
    if backend.name == "jax":
        pytest.skip("how JAX traces and compiles is its own")
    if backend.name == "array-api-strict":
        pytest.skip("NumPy's first step makes the same calls")
    if backend.spec == "numpy:numba" or backend.name == "cupy":
        for times in (1, 2, 4):  # in which it compiles what is not on the disk yet
            run(steps(times * FEW, backend.spec))
    tolerance = OF_LOOPS if backend.spec == "numpy:numba" else TOLERANCE
    assert excess(steps, backend.spec, tolerance=tolerance) == {}


@pytest.mark.host_only
def test_deeds_take_as_much_longer_as_there_are_more_layers(tmp_path):
    assert excess(deeds, tmp_path) == {}


# What a trainer takes -----------------------------------------------------------------------------


def bytes_held(backend):
    """What the backend's library holds for arrays, and how many programs it has compiled."""
    gc.collect()
    if backend.name == "cupy":
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()
        free, total = cupy.cuda.runtime.memGetInfo()
        return total - free
    if backend.name == "jax":
        import jax

        programs = jax.devices()[0].client.live_executables()
        return sum(one.nbytes for one in jax.live_arrays()), len(programs)
    if backend.name == "torch":
        import torch

        tensors = (one for one in gc.get_objects() if issubclass(type(one), torch.Tensor))
        return sum(one.numel() * one.element_size() for one in tensors)
    return sum(one.nbytes for one in gc.get_objects() if issubclass(type(one), Arena))


def trained_and_dropped(spec):
    """Trains with all that takes memory, threads or programs; references that should die."""
    network = Network([Dense(200), BatchNorm(), ReLU(), Dropout(0.1), Dense(3)], (50,), spec)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-3), metrics=[Accuracy()])
    x, y = np.ones((96, 50), "float32"), np.zeros(96, int)
    trainer.fit(x, y, epochs=3, batch_size=32, validation=(x, y), progress=False)
    trainer.predict(x)
    weight = network.params["0.dense.weight"]
    step = trainer._train_step.run
    return [weakref.ref(one) for one in (trainer, network, weight, step)]


def test_a_trainer_that_is_dropped_gives_back_what_it_took(backend):
    for _ in range(2):
        references = trained_and_dropped(backend.spec)
    before, threads = bytes_held(backend), threading.active_count()
    assert [one() for one in references] == [None] * len(references)
    for _ in range(2):
        trained_and_dropped(backend.spec)
    assert (bytes_held(backend), threading.active_count()) == (before, threads)
