"""Devices of JAX, over which XLA cuts batches: the curve of one, simulated ones on a CPU."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

import xpnn
from tests.backends.process import PYTHON_PATH, python
from tests.conftest import needs
from tests.distributed.curves import SHAPES
from xpnn import Dense, Network, Trainer

pytestmark = needs("jax")

QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)


def on_devices(count, code):
    """What a fresh Python prints for ``code``, where JAX has so many devices."""
    several = f"--xla_force_host_platform_device_count={count}"
    return python(code, XLA_FLAGS=f"{several} {QUICK}", JAX_PLATFORMS="cpu", JAX_ENABLE_X64="0")


CURVES = """
import json
import numpy as np
from tests.distributed.curves import SHAPES, trained

found = {}
for kind in SHAPES:
    one, several = trained(kind, "jax", None), trained(kind, "jax", "jax")
    losses, others = (np.asarray(run["loss"] + run["val_loss"]) for run in (one, several))
    found[kind] = {
        "difference": float(np.max(np.abs(others / losses - 1))),
        "steps": several["steps"],
        "compiled": several["compiled"],
        "measured": one["val_accuracy"] == several["val_accuracy"],
    }
print(json.dumps(found))
"""


def test_the_curve_of_one_device():
    found = json.loads(on_devices(4, CURVES))
    assert list(found) == list(SHAPES)
    for kind, run in found.items():
        assert run["difference"] < 1e-6, kind
        assert (run["steps"], run["compiled"], run["measured"]) == (56, True, True), kind


def test_where_everything_lies():
    on_devices(
        4,
        """
        import re
        import jax, numpy as np
        from xpnn import *
        from xpnn.training.intake.sources import sources_of_fit

        rng = np.random.default_rng(0)
        x = rng.normal(size=(23, 8, 8, 2)).astype(np.float32)
        y = rng.integers(0, 3, 23)
        layers = [Conv2D(4, 3), BatchNorm(), Tanh(), Dropout(0.5), Flatten(), Dense(3)]
        network = Network(layers, (8, 8, 2), "jax", seed=1)
        trainer = Trainer(network, "cross_entropy", Adam(1e-2), distributed="jax")
        trainer.fit(x, y, epochs=2, batch_size=8, progress=False)
        every = set(jax.devices())

        # parameters, state and slots lie whole on each device, with the same bits
        trained = jax.tree.leaves([network.params, network.state, trainer.opt_state])
        assert len(trained) > 20
        for array in trained:
            parts = [np.asarray(one.data) for one in array.addressable_shards]
            assert array.devices() == every and len(parts) == 4
            assert all(part.tobytes() == parts[0].tobytes() for part in parts)
            assert parts[0].shape == array.shape

        # data stay on the host, and each device is sent its rows; a rest lies whole on each
        given = dict(epochs=1, batch_size=8, validation=None, sample_weight=None, shuffle=None)
        sources = sources_of_fit(trainer.state, x, y, **given, train_metrics=False)
        batches = sources.make_batches(0)
        assert all(one is None or isinstance(one, np.ndarray) for one in batches.arrays)
        first, *_, last = [parts[0] for parts in batches]
        assert [one.data.shape for one in first.addressable_shards] == [(2, 8, 8, 2)] * 4
        assert [one.data.shape for one in last.addressable_shards] == [(7, 8, 8, 2)] * 4

        # a batch that lies whole is cut in the step: gradients are added up in one go, and no
        # activations are sent around
        step, whole = trainer._train_step, map(network.backend.asarray, (x[:8], y[:8]))
        arguments = step.arguments(trainer.opt_state, *whole)
        program = step.compiled.lower(*arguments).compile().as_text()
        sent = re.findall(r"= ([^=]*?) (all-[a-z]+|collective-[a-z]+|reduce-scatter)[(]", program)
        assert {kind for _, kind in sent} == {"all-reduce"}
        shapes = [re.findall(r"f32[[]([0-9,]*)[]]", what) for what, _ in sent]
        (gradients,) = [one for one in shapes if "3,3,2,4" in one]
        assert "144,3" in gradients and "" in gradients  # the loss among them
        assert [one for one in shapes if one != gradients] == [["4"], ["4"], ["4", "4"]]
        """,
    )


def test_masks_and_means_in_double_precision():
    on_devices(
        4,
        """
        import jax, numpy as np
        from xpnn import *

        jax.config.update("jax_enable_x64", True)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(26, 6)), rng.integers(0, 3, 26)

        def trainer(distributed):
            layers = [Dense(16), BatchNorm(), ReLU(), GaussianNoise(0.1), Dropout(0.5), Dense(3)]
            network = Network(layers, (6,), "jax", seed=4, dtype="float64")
            return Trainer(network, "cross_entropy", Adam(1e-2), distributed=distributed)

        def masked(backend):
            def step(x):
                return backend.across_devices(x) * backend.random_mask(0.5, 7, 0, x.shape)

            return backend.compiled(step)(backend.asarray(np.ones((8, 6))))

        curves, masks = [], []
        for distributed in (None, "jax"):
            own = trainer(distributed)
            curves.append(own.fit(x, y, epochs=13, batch_size=8, progress=False)["loss"])
            masks.append(np.asarray(masked(own.network.backend)))
        np.testing.assert_allclose(*curves, rtol=1e-12)
        assert masks[0].any() and not masks[0].all()
        np.testing.assert_array_equal(*masks)
        """,
    )


TRAINERS = """
import logging, pickle
from functools import partial
import jax, jax.numpy as jnp, numpy as np, xpnn
from xpnn import *

rng = np.random.default_rng(0)
x, y = rng.normal(size=(46, 5)).astype(np.float32), rng.integers(0, 3, 46)
weight = rng.uniform(0, 2, 46)

def trainer(distributed, loss="cross_entropy", **options):
    layers = [Dense(8).regularize(L2(1e-2)), Tanh(), Dropout(0.2), Dense(3)]
    optimizer = Adam(1e-2, clip=ClipByGlobalNorm(0.1))
    options |= {"metrics": ["accuracy"], "distributed": distributed}
    return Trainer(Network(layers, (5,), "jax", seed=3), loss, optimizer, **options)

few = {"epochs": 3, "batch_size": 12, "progress": False}
"""


def test_all_that_a_training_may_have(tmp_path):
    on_devices(
        4,
        f"FOLDER = {str(tmp_path)!r}{TRAINERS}"
        """
def alike(fit, rtol=1e-6, **options):
    runs = [fit(trainer(distributed, **options)) for distributed in (None, "jax")]
    numbers = [[one for name in sorted(run) for one in run[name]] for run in runs]
    np.testing.assert_allclose(*numbers, rtol=rtol)

told = []
logging.getLogger("xpnn").addFilter(lambda record: told.append(record.getMessage()))
np.save(f"{FOLDER}/x.npy", x)
mapped = np.load(f"{FOLDER}/x.npy", mmap_mode="r")
weighted = {"sample_weight": weight, "validation": (x, y)}
alike(lambda t: t.fit(mapped, y, **few, **weighted, callbacks=[EMA(0.9)]))
assert not told
alike(lambda t: t.fit(x, y, **few, sample_weight=weight), accumulate=2)
(words,) = told
assert "batches of 12 samples in 2 parts do not come out even on 4 devices" in words
assert "take a batch_size of 16" in words
balanced = partial(cross_entropy, class_weight="balanced")
cut = [(jnp.asarray(x[k : k + 12]), y[k : k + 12]) for k in range(0, 46, 12)]
alike(lambda t: t.fit(cut, epochs=3, progress=False), loss=balanced)
scale = MixedPrecision("float16", initial_scale=2.0**24)  # which overflows in the first steps
alike(lambda t: t.fit(x, y, **few), precision=scale, rtol=1e-3)
""",
    )


def test_resumed_and_moved_like_any_other(tmp_path):
    on_devices(
        4,
        f"FOLDER = {str(tmp_path)!r}{TRAINERS}"
        """
whole = trainer(None).fit(x, y, **few | {"epochs": 5})
for first, then in ((None, "jax"), ("jax", None)):  # with another number of devices
    there = trainer(first)
    there.fit(x, y, **few, callbacks=[Checkpoint(f"{FOLDER}/{first}")])
    history = trainer(then).fit(x, y, **few | {"epochs": 5}, resume=f"{FOLDER}/{first}")
    np.testing.assert_allclose(history["loss"], whole["loss"], rtol=1e-6)

there.save(f"{FOLDER}/training.safetensors")
there.load(f"{FOLDER}/training.safetensors")
network = there.network
assert repr(network.backend) == "<backend jax:all>"
network.save(f"{FOLDER}/network.safetensors")
outputs = np.asarray(network.predict(x))
assert network.predict(jnp.asarray(x)).devices() == set(jax.devices())
again = pickle.loads(pickle.dumps(network))
assert again.backend is network.backend is xpnn.get_backend("jax:all")
moved = there.to("jax")
assert moved.predict(x).devices() == {jax.devices()[0]}
for other in (again, moved, xpnn.load(f"{FOLDER}/network.safetensors")):
    np.testing.assert_allclose(np.asarray(other.predict(x)), outputs, rtol=2e-5, atol=1e-6)
assert moved.evaluate(x, y)["accuracy"] == there.evaluate(x, y)["accuracy"]
losses = [one.fit(x, y, **few)["loss"] for one in (moved, there)]
np.testing.assert_allclose(*losses, rtol=1e-6)
assert there.summary(batch=64).peak_bytes < moved.summary(batch=64).peak_bytes
""",
    )


TWO_PROCESSES = """
import json, os, sys
import jax, numpy as np

jax.config.update("jax_cpu_collectives_implementation", "gloo")
rank, folder, port = int(sys.argv[1]), *sys.argv[2:]
if rank >= 0:
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
from xpnn import *
from xpnn.errors import XpnnError

rng = np.random.default_rng(0)
x, y = rng.normal(size=(23, 5)).astype(np.float32), rng.integers(0, 3, 23)
layers = [Dense(8, use_bias=False), BatchNorm(), Tanh(), Dropout(0.3), Dense(3)]
network = Network(layers, (5,), "jax", seed=2)
options = {"distributed": "jax", "shard_optimizer": True, "metrics": ["accuracy"]}
trainer = Trainer(network, "cross_entropy", "adam", **options)
given = {"epochs": 2, "batch_size": 8, "progress": False, "validation": (x, y)}
saves = [Checkpoint(f"{folder}/{min(rank, 0)}")]
history = trainer.fit(x, y, **given, callbacks=saves)
trainer.save(f"{folder}/{rank}.safetensors")  # which process 0 alone does
found = {name: list(values) for name, values in history.items()}
moved = trainer.to(network.backend).fit(x, y, **given)
found["moved"] = {name: list(values) for name, values in moved.items()}
found["bits"] = {name: one.tobytes().hex() for name, one in network.numpy_arrays().items()}
if rank >= 0:
    assert len(next(iter(network.params.values())).devices()) == 2
    slot = trainer.opt_state["m"]["0.dense.weight"]
    assert (slot.shape, slot.addressable_data(0).shape) == ((5, 8), (5, 4))
    own = trainer.to("jax")  # alone, on a device of this process
    assert own.network.predict(x).is_fully_addressable
    np.testing.assert_allclose(
        np.asarray(own.network.predict(x)), np.asarray(network.predict(x)), rtol=1e-5, atol=1e-6
    )
    try:
        with trainer.alone():
            trainer.to("numpy")
    except XpnnError as error:
        found["alone"] = "do it in all of them" in str(error)

    def batches():  # the third of which is another one in process 1
        for k in range(5):
            yield x[4 * k : 4 * k + 4] + (rank == 1 and k == 2), y[4 * k : 4 * k + 4]

    try:
        trainer.fit(batches, epochs=1, progress=False)
    except XpnnError as error:
        found["told"] = str(error)
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(found, file)
"""


def test_two_processes_have_the_curve_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    own = {"PYTHONPATH": PYTHON_PATH, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path), port],
            env={**os.environ, **own},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (-1, 0, 1)
    ]
    try:
        for run in runs:
            _, told = run.communicate(timeout=180)
            assert run.returncode == 0, told
    finally:
        for run in runs:
            run.kill()
    alone, *both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (-1, 0, 1)]
    assert both[0] == both[1]
    told = "wanted the same batches in all processes, got others in process 1"
    assert both[0]["told"].startswith(told)
    assert both[0]["alone"]
    for name in ("loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(both[0][name], alone[name], rtol=1e-6)
        np.testing.assert_allclose(both[0]["moved"][name], alone["moved"][name], rtol=1e-6)
    assert len(list((tmp_path / "0").iterdir())) == 2
    assert (tmp_path / "0.safetensors").exists()
    assert not (tmp_path / "1.safetensors").exists()


def test_one_device_trains_as_without_it():
    network = Network([Dense(2)], (3,), "jax")
    backend = network.backend
    for distributed in ("jax", "auto"):
        trainer = Trainer(network, "cross_entropy", "adam", distributed=distributed)
        assert network.backend is backend
        assert trainer.state.communicator is None
    assert xpnn.get_backend("jax:all").device == backend.device


SHARED = f"""{TRAINERS}
def made(optimizer, distributed="jax", shared=True, width=8, loss="cross_entropy", **options):
    layers = [Dense(width), BatchNorm(), Tanh(), Dropout(0.2), Dense(16), Tanh(), Dense(3)]
    network = Network(layers, (5,), "jax", seed=3)
    options |= {{"distributed": distributed, "shard_optimizer": shared}}
    return Trainer(network, loss, optimizer, **options)

def parts(trainer):
    slots = {{name: trainer.opt_state[name] for name in trainer.optimizer.slots}}
    arrays = jax.tree.leaves(slots)
    return sum(one.size for one in arrays), [
        sum(one.addressable_shards[k].data.size for one in arrays) for k in range(4)
    ]

def are_whole(*trees):
    return all(one.is_fully_replicated for one in jax.tree.leaves(trees))
"""


def test_slots_are_shared_out(tmp_path):
    """Each device keeps a part of every slot, through checkpoints, copies and steps in halves."""
    on_devices(
        4,
        f"FOLDER = {str(tmp_path)!r}{SHARED}"
        """
clip = ClipByGlobalNorm(0.1)
optimizers = Adam(1e-2, clip=clip), Adafactor(1e-2), Muon(1e-2), LAMB(1e-2), SGD(0.1, momentum=0.9)
for optimizer in optimizers:
    own, whole = made(optimizer), made(optimizer, None, shared=False)
    losses = [one.fit(x, y, **few)["loss"] for one in (own, whole)]
    np.testing.assert_allclose(*losses, rtol=2e-6)
    assert own.compiled
    assert are_whole(own.network.params, own.network.state)

adam = optimizers[0]
saved = made(adam)
saved.fit(x, y, **few, callbacks=[Checkpoint(FOLDER)])
count, own = parts(saved)
cut = 2 * (5 * 8 + 8 * 16 + 16 * 3 + 8 + 8 + 8 + 16)  # all but the bias of 3 numbers
assert count == cut + 2 * 3 and own == [cut // 4 + 2 * 3] * 4
whole = made(adam, None).fit(x, y, **few | {"epochs": 5})["loss"]
for resumed in (made(adam), made(adam, shared=False), made(adam, None)):
    history = resumed.fit(x, y, **few | {"epochs": 5}, resume=FOLDER)
    np.testing.assert_allclose(history["loss"], whole, rtol=1e-6)
    if resumed.state.shard_optimizer and resumed.network.backend.devices == 4:
        assert parts(resumed)[1] == own
moved = saved.to("jax:all")
losses = [one.fit(x, y, **few)["loss"] for one in (saved, moved)]
assert losses[0] == losses[1] and parts(moved) == parts(saved) == (count, own)
half = made(adam, precision="bfloat16")
half.fit(x, y, **few)
assert parts(half)[1] == own
plain = made(adam, compile=False)  # by which they lie whole
np.testing.assert_allclose(plain.fit(x, y, **few)["loss"], whole[:3], rtol=1e-6)
assert are_whole(plain.network.params, plain.opt_state)
peaks = [made(adam, shared=one, width=512).summary(batch=16).peak_bytes for one in (True, False)]
slots = 4 * 2 * sum(one.size for one in made(adam, width=512).network.params.values())
assert peaks[1] - peaks[0] > slots / 2, (peaks, slots)
""",
    )


def test_steps_that_are_not_compiled_leave_all_whole():
    """XLA would cut parameters that are made of slots in parts, for good."""
    on_devices(
        4,
        f"""{SHARED}
import warnings
from xpnn.errors import CompileWarning

warnings.simplefilter("ignore", CompileWarning)

def refused(predictions, targets, *, sample_weight=None, backend=None):
    given = {{"sample_weight": sample_weight, "backend": backend}}
    value, delta = mean_squared_error(predictions, targets, **given)
    if not isinstance(value, jax.core.Tracer):  # devices of a CPU wait for each other for good
        assert predictions.is_fully_replicated
    return value * (1.0 if float(value) < 1e9 else 0.0), delta

one_hot = np.eye(3, dtype=np.float32)[y]
wanted = [made("adam", None, False, loss=mean_squared_error).fit(x, one_hot, **few)["loss"]]
trainer = made("adam", loss=refused)
np.testing.assert_allclose(trainer.fit(x, one_hot, **few)["loss"], wanted[0], rtol=1e-6)
assert not trainer.compiled
assert are_whole(trainer.network.params, trainer.network.state, trainer.opt_state)

trainer = made("adam")
shares = []
for compile in (None, False, None):
    trainer.compile = compile
    trainer.fit(x, y, **few)
    assert are_whole(trainer.network.params, trainer.network.state)
    shares.append(are_whole(trainer.opt_state))
assert shares == [False, True, False]

updater = Updater(trainer.network, "adam", compile=False)
updater.opt_state = trainer.opt_state
network = trainer.network
value, delta = cross_entropy(network.forward(x, training=True), y, backend=network.backend)
updater.backward(delta)
updater.step()
assert are_whole(network.params, updater.opt_state)
""",
    )


def test_steps_of_ones_own_on_all_devices():
    """Each form of arguments has its own program, results keep their form, and none its step."""
    on_devices(
        4,
        f"""{SHARED}
import collections, gc, weakref

class Counted(SGD):
    def init(self, params, backend, scaling=None):
        return {{**super().init(params, backend, scaling), "count": 0}}

trainer = made(Counted(0.1, momentum=0.9))
assert np.isfinite(trainer.fit(x, y, **few)["loss"]).all()

network, optimizer = made("adam", shared=False).network, Adam(1e-2)
backend = network.backend
X, Y = backend.asarray(x[:8]), backend.asarray(y[:8])
step = make_train_step(network, cross_entropy, optimizer)
try:
    step(network.params, network.state, {{}}, X, Y)
    raise AssertionError("an optimizer without its state has taken a step")
except (KeyError, ValueError):
    pass
params = collections.OrderedDict(network.params)
opt_state = optimizer.init(params, backend)
params, state, opt_state, value = step(params, network.state, opt_state, X, Y)
assert np.isfinite(value) and are_whole(params, state, opt_state)

Pair = collections.namedtuple("Pair", "one other")
doubled = backend.compile(lambda own: Pair([one * 2 for one in own], 1.0), donate=(0,))
for count in (1, 2, 3):
    found = doubled([backend.asarray(np.ones(4)) for _ in range(count)])
    assert type(found) is Pair and len(found.one) == count
    assert are_whole(found)

gc.disable()
for shared in (False, True):
    trainer = made("adam", shared=shared)
    trainer.fit(x, y, **few)
    held = [weakref.ref(trainer._train_step.compiled)]
    held += [weakref.ref(one) for one in trainer.network.params.values()]
    del trainer
    assert not [one() for one in held if one() is not None]
""",
    )
