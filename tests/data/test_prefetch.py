"""Prefetch: batches made by a thread, in order, few ahead, and no thread that stays."""

import threading
import time
import traceback
from contextlib import closing

import numpy as np
import pytest

from xpnn.data import Prefetch

WAIT = 5.0


@pytest.fixture(autouse=True)
def _no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def until(condition):
    """Wait for what another thread will do."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


class Counted:
    """Numbers, and how many of them were made; knows epochs."""

    def __init__(self, count=10):
        self.count, self.made, self.ended, self.asked, self.thread = count, 0, 0, [], None

    def __len__(self):
        return self.count

    def batches(self, epoch=0, start=0):
        self.asked.append((epoch, start))
        self.thread = threading.current_thread().name
        try:
            for number in range(start, self.count):
                self.made += 1
                yield 100 * epoch + number
        finally:
            self.ended += 1

    def __iter__(self):
        return self.batches()


SOURCES = {
    "list": list(range(10)),
    "function": lambda: iter(range(10)),
    "generator function": lambda: (k for k in range(10)),
    "knows epochs": Counted(),
    "nested": Prefetch(Counted(), depth=1),
}


@pytest.mark.parametrize("depth", [1, 2, 50])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_pass_has_all_batches_in_order(kind, depth):
    ahead = Prefetch(SOURCES[kind], depth)
    for _ in range(2):
        assert list(ahead) == list(range(10))
        assert list(ahead.batches(0, 7)) == [7, 8, 9]
        assert list(ahead.batches(0, 10)) == []


def test_the_source_is_told_epoch_and_start():
    source = Counted()
    assert list(Prefetch(source).batches(epoch=3, start=8)) == [308, 309]
    assert source.asked == [(3, 8)]
    assert source.thread == "xpnn-prefetch"


def test_the_length_is_that_of_the_source():
    assert len(Prefetch(Counted(7))) == 7
    with pytest.raises(TypeError):
        len(Prefetch(lambda: iter([])))


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_batches_are_made_ahead(depth):
    source = Counted()
    with closing(Prefetch(source, depth).batches()) as batches:
        for taken in range(1, 6):
            next(batches)
            until(lambda wanted=taken + depth: source.made == wanted)
            time.sleep(0.01)
            assert source.made == taken + depth
    assert source.ended == 1


def test_batches_are_made_while_one_is_used():
    source = Counted()
    with closing(Prefetch(source, 1).batches()) as batches:
        assert next(batches) == 0
        until(lambda: source.made == 2)  # nobody has asked for it


def test_an_early_end_ends_the_source_and_its_thread():
    source = Counted()
    for _ in Prefetch(source):
        break
    until(lambda: source.ended == 1)
    assert source.made <= 3


def test_what_the_source_started_is_closed_though_somebody_keeps_it():
    kept = []

    def source():
        kept.append(batch for batch in range(10))
        return kept[-1]

    for _ in Prefetch(source):
        break
    until(lambda: kept[0].gi_frame is None)


def test_a_batch_that_is_dropped_is_not_kept():
    import weakref

    kept = []

    def source():
        for _ in range(3):
            batch = np.zeros(3)
            kept.append(weakref.ref(batch))
            yield batch
            del batch

    batches = iter(Prefetch(source, 1))
    for number in range(3):
        batch = next(batches)
        assert kept[number]() is batch
        del batch
        if number:
            assert kept[number - 1]() is None
    batches.close()


def failing(count):
    yield from range(count)
    raise_here()


def raise_here():
    raise OSError("the disk is gone")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_error_comes_after_the_batches_before_it_with_its_traceback(count):
    batches = iter(Prefetch(lambda: failing(count)))
    assert [next(batches) for _ in range(count)] == list(range(count))
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(batches)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in raise_here" in shown
    assert f"in the thread of Prefetch, which made batch {count + 1}." in shown
    with pytest.raises(StopIteration):
        next(batches)


def test_the_number_of_a_batch_counts_those_before_the_start():
    with pytest.raises(OSError, match="the disk") as caught:
        list(Prefetch(lambda: failing(5)).batches(0, 3))
    assert "made batch 6" in caught.value.__notes__[0]


def test_a_source_that_cannot_be_opened():
    def opened():
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        list(Prefetch(opened))


def test_an_iterator_that_is_passed_in_can_be_gone_on_with():
    left = iter(range(10))
    with closing(Prefetch(left, 1).batches()) as batches:
        assert next(batches) == 0
        until(lambda: left.__length_hint__() == 8)
    assert next(left) == 2


def test_an_interrupt_while_waiting_ends_the_thread():
    import _thread

    started = threading.Event()

    def slow():
        yield 0
        started.set()
        time.sleep(0.2)
        yield 1

    def interrupt():
        started.wait(WAIT)
        _thread.interrupt_main()

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        list(Prefetch(slow))
    other.join()


def test_an_end_does_not_wait_forever_for_a_source_that_hangs(monkeypatch):
    monkeypatch.setattr("xpnn.data.prefetch.PATIENCE", 0.05)
    release = threading.Event()

    def hanging():
        yield 0
        release.wait(WAIT)
        yield 1

    batches = iter(Prefetch(hanging))
    next(batches)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 2
    release.set()  # and then the thread ends by itself
    until(lambda: not any(one.name == "xpnn-prefetch" for one in threading.enumerate()))


def test_what_is_refused():
    with pytest.raises(ValueError, match="wanted a depth of at least 1 batch, got 0"):
        Prefetch([], depth=0)
    for source in (3, "abc", {"x": 1}):
        with pytest.raises(TypeError, match="wanted an iterable of batches"):
            Prefetch(source)
