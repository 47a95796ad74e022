"""Loops and products in parts on several threads: the same numbers, whoever has the threads."""

import multiprocessing
import threading
import time
from unittest.mock import patch

import numpy as np
import pytest

from tests.backends.numpy.conftest import WITH_NUMBA
from xpnn.backends.numpy import openblas
from xpnn.backends.numpy.cores import Cores, ranges
from xpnn.backends.numpy.loops import running
from xpnn.backends.numpy.loops.grouping import bind_fused
from xpnn.backends.numpy.openblas import one_thread_a_product
from xpnn.backends.numpy.products import BY_NUMPY, ByNumpy, Products
from xpnn.backends.numpy.replay import Replayed


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.fixture
def three():
    """Three threads, for however little work."""
    with patch.object(running, "LEAST_WORK", 1), patch.object(ByNumpy, "least", 1):
        yield Cores(3)


class Library:
    """Stands for OpenBLAS: how many threads it was told to use."""

    def __init__(self, threads):
        self.threads = self.told = threads

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, count):
        self.threads = self.told = count


@pytest.fixture
def library():
    with patch.object(openblas, "openblas", lambda: found), patch.object(openblas, "_alone", 0):
        found = Library(4)
        yield found


def step(x, w, b):
    z = x @ w + b
    powers = np.exp(z - np.max(z, axis=-1, keepdims=True))
    y = powers / np.sum(powers, axis=-1, keepdims=True)
    return y, x.T @ y, np.sum(y, axis=0), y.reshape(4, -1, 50) @ np.ones((4, 50, 7), x.dtype)


@WITH_NUMBA
def test_a_step_in_parts_is_the_step(three, library):
    given = [draw(*shape, dtype=np.float64) for shape in ((1200, 30), (30, 50), (50,))]
    replayed = Replayed(step, bind=bind_fused, required=True, cores=three)
    whole = Replayed(step, bind=bind_fused, required=True)
    for _ in range(3):
        for found, same, wanted in zip(replayed(*given), whole(*given), step(*given), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(found, same, rtol=1e-12, atol=1e-12)
    split = [call for call in replayed.units[0]._calls if call.func == three.run]
    assert len(split) == 4  # three products, one loop
    assert [len(call.args[0]) for call in split] == [3] * 4


@WITH_NUMBA
def test_sums_do_not_depend_on_the_number_of_threads(three):
    def sums(x):
        y = np.tanh(x) * 2.0
        return np.sum(y, axis=0), np.sum(y)

    x = draw(3000, 70)
    one, several = (
        Replayed(sums, bind=bind_fused, required=True, cores=some)(x) for some in (None, three)
    )
    for pair in zip(one, several, strict=True):
        np.testing.assert_array_equal(*pair)


@pytest.mark.parametrize("shape", [(40, 30, 20), (5, 30, 200), (200, 30, 5), (1, 2, 1), (2, 9, 2)])
def test_products_in_parts(three, library, shape):
    rows, inner, columns = shape
    a, b = draw(rows, inner), draw(columns, inner).T
    out = np.empty((rows, columns), np.float32)
    Products(three, BY_NUMPY).matrices(a, b, out)()
    np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-5)


def test_an_error_in_the_calling_thread_waits_for_the_others(three):
    """They write into memory that is used next."""
    ended = []

    def slow():
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(ZeroDivisionError):
        three.run([lambda: 1 / 0, slow, slow])
    assert len(ended) == 2


def test_every_part_is_done_and_the_first_error_comes_out(three):
    done = []

    def fail():
        raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        three.run([lambda: done.append(0), fail, lambda: done.append(2)])
    assert sorted(done) == [0, 2]
    three.run([lambda: done.append(3), lambda: done.append(4)])
    assert sorted(done) == [0, 2, 3, 4]


def test_a_second_thread_does_its_parts_by_itself(three):
    inside, leave, names = threading.Event(), threading.Event(), []

    def hold():
        inside.set()
        assert leave.wait(10)

    other = threading.Thread(target=three.run, args=([hold, hold],))
    other.start()
    assert inside.wait(10)
    three.run([lambda: names.append(threading.current_thread())] * 3)
    leave.set()
    other.join(10)
    assert names == [threading.main_thread()] * 3


def run_in_child(some, queue):
    names = []
    some.run([lambda: names.append(1), lambda: names.append(2)])
    queue.put(sorted(names))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the parent has threads
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where a test has loaded it
def test_a_forked_process_has_threads_of_its_own(three):
    three.run([int, int, int])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=run_in_child, args=(three, queue))
    child.start()
    assert queue.get(timeout=30) == [1, 2]
    child.join(30)


def test_openblas_gets_its_threads_back(library):
    with one_thread_a_product():
        assert library.threads == 1
        with one_thread_a_product():  # another thread's step
            assert library.threads == 1
        assert library.threads == 1
    assert library.threads == 4


def test_openblas_gets_its_threads_back_after_an_error(library):
    with pytest.raises(ZeroDivisionError), one_thread_a_product():
        1 / 0  # noqa: B018
    assert library.threads == 4


def test_who_wants_one_thread_of_openblas_gets_one(library, three):
    library.threads = 1
    assert Products(three, BY_NUMPY).cores is None


def test_ranges_are_all_of_it():
    assert [list(range(10))[part] for part in ranges(10, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert ranges(2, 3) == [slice(0, 1), slice(1, 2)]
