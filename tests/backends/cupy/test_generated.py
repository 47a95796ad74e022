"""What only a GPU would refuse in generated kernels: registers, blocks along an axis, numbers."""

import numpy as np
import pytest

from tests.backends.recording.test_recording import record
from xpnn.backends.cupy.formulas import is_known
from xpnn.backends.cupy.generated import kernel_of
from xpnn.backends.cupy.program import _laid_as_joined as laid_as_joined
from xpnn.backends.recording.kernels import KernelGroups


def kernels_of(step, *given):
    grouping = KernelGroups(record(step, *given), is_known)
    laid, _ = laid_as_joined(grouping.in_order(), set())
    return [
        kernel_of(group, grouping.shared, laid=laid) for group in grouping.in_order() if group.walks
    ]


def softmax_with_columns(x):
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True), np.sum(x * powers, axis=0)


@pytest.mark.parametrize("row", [1, 40, 512, 513, 4_097, 16_384])
def test_registers_suffice_for_the_threads_of_a_block(row):
    """The compiler is told how many these are: of 1,024 each has 64 registers, not 255."""
    for kernel in kernels_of(softmax_with_columns, np.ones((6, row), np.float32)):
        across, down = kernel.threads
        assert f"__launch_bounds__({across * down}, " in kernel.source
        assert across * down <= 1024


def columns(x):
    return np.sum(x + x, axis=0)


def test_few_blocks_along_the_second_axis():
    """A grid may have 65,535 there; columns are many where images or weights are added up."""
    (kernel,) = kernels_of(columns, np.empty((2, 2**24), np.float16))
    across, down = kernel.blocks
    assert across == 2**24 / 256  # packs of 8 for each thread of a warp
    assert down == 1
    (kernel,) = kernels_of(columns, np.empty((2**20, 4), np.float16))
    assert kernel.blocks[0] == 1
    assert kernel.blocks[1] <= 65_535


def first_column(x):
    return x[:, 0] + 1.0


@pytest.mark.parametrize(("rows", "index"), [(2**14, "int"), (2**16, "long long")])
def test_places_are_counted_as_far_as_they_reach(rows, index):
    """A few items may lie in a large array: 32 bits do not count up to the last of them."""
    (kernel,) = kernels_of(first_column, np.empty((rows, 2**14), np.float16))
    assert f"for ({index} i0 = " in kernel.source
    assert f"const {index} count" in kernel.source
    assert kernel.count_is_int == (index == "int")
    assert kernel.count == rows


def joined(x, w):
    return np.concatenate([x + 1.0, x * 2.0], axis=1) @ w


@pytest.mark.parametrize(("columns", "index"), [(2**12, "int"), (2**13, "long long")])
def test_places_are_counted_as_far_as_what_is_joined_reaches(columns, index):
    """Written to its place in an array of more items than 32 bits count."""
    given = np.empty((2**16, columns), np.float16), np.empty((2 * columns, 1), np.float16)
    (kernel,) = kernels_of(joined, *given)
    assert {view.memory.nbytes for view in kernel.made} == {2 * given[0].nbytes}
    assert f"for ({index} i0 = " in kernel.source
