"""Networks in child processes: after fork, with what was inherited; after spawn, pickled."""

import multiprocessing
import warnings

import numpy as np
import pytest

from tests.reliability import child

FORKS = "fork" in multiprocessing.get_all_start_methods()


def in_child(method, target, argument):
    """What a child process sends back, within a minute."""
    context = multiprocessing.get_context(method)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(argument, theirs))
    with warnings.catch_warnings():
        # where other tests have left threads behind, Python 3.12 warns of a fork, and so does JAX
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        process.start()
    theirs.close()
    try:
        assert mine.poll(60), "the child hangs"
        return mine.recv()
    finally:
        process.terminate()
        process.join(10)


def assert_same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    assert found[1] == wanted[1]
    for name, value in wanted[2].items():
        np.testing.assert_array_equal(found[2][name], value, err_msg=name)


class Kept:
    """Stands for the pipe where there is no child."""

    def send(self, answer):
        self.answer = answer


@pytest.mark.fault("child processes")
@pytest.mark.skipif(not FORKS, reason="this system does not fork")
def test_fork(backend):
    """The child trains on from the recorded step; the parent is where it was, and trains on."""
    if backend.name in ("torch", "jax", "cupy"):
        pytest.skip("its threads, or its device, do not come along through a fork")
    if backend.spec == "numpy:numba":
        pytest.skip("threads of its loops do not come along through a fork")
    trainer = child.make_trainer(backend.spec)
    child.train(trainer)
    found = in_child("fork", child.work, trainer)
    kept = Kept()
    child.work(trainer, kept)
    assert_same(found, kept.answer)


@pytest.mark.fault("child processes")
def test_spawn(backend):
    """A network is pickled on the way; the child has the same weights, and trains to the same."""
    if backend.name == "array-api-strict":
        pytest.skip("a copy of its arrays is looked at by tests/saving/test_copies.py")
    network = child.make_trainer(backend.spec).network
    found = in_child("spawn", child.work_on_network, network)
    kept = Kept()
    child.work_on_network(network, kept)
    assert_same(found, kept.answer)


@pytest.mark.fault("child processes")
def test_spawn_from_a_name(backend):
    """The child makes its own, from the name of a backend and a seed."""
    if backend.name == "array-api-strict":
        pytest.skip("it makes what NumPy makes")
    found = in_child("spawn", child.make_and_work, backend.spec)
    kept = Kept()
    child.make_and_work(backend.spec, kept)
    assert_same(found, kept.answer)
