"""Layers that resize images: by hand, in half precision, at their edges, and what they refuse."""

import numpy as np
import pytest

from tests.layers.oracles import passes
from xpnn import Network
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, GradientError, ShapeError
from xpnn.layers import (
    AdaptiveAveragePool,
    Cropping,
    PixelShuffle,
    UpSampling,
    ZeroPadding,
)
from xpnn.testing import check_gradients

ROW = np.array([1.0, 2, 4, 8])
BY_HAND = [  # a layer, its outputs of ROW, and dL/dROW for delta of 1, 10, 100, ...
    (ZeroPadding(((1, 2),)), [0, 1, 2, 4, 8, 0, 0], [10, 100, 1e3, 1e4]),
    (Cropping(((1, 0),)), [2, 4, 8], [0, 1, 10, 100]),
    (UpSampling(2), [1, 1, 2, 2, 4, 4, 8, 8], [11, 1100, 110_000, 11_000_000]),
    (
        UpSampling(2, mode="linear"),
        [1, 1.25, 1.75, 2.5, 3.5, 5, 7, 8],
        [1 + 7.5 + 25, 2.5 + 75 + 750 + 2500, 250 + 7500 + 75_000 + 250_000, 25_000 + 10_750_000],
    ),
    (AdaptiveAveragePool(3), [1.5, 3, 6], [0.5, 5.5, 55, 50]),
    (AdaptiveAveragePool(1), [3.75], [0.25] * 4),
]


@pytest.mark.parametrize(("layer", "outputs", "back"), BY_HAND, ids=lambda value: repr(value)[:40])
def test_a_row_by_hand(backend, layer, outputs, back):
    made = type(layer)(**layer.arguments())
    delta = 10.0 ** np.arange(len(outputs))
    found = passes(Network([made], (4, 1), backend), ROW[None, :, None], delta[None, :, None])
    np.testing.assert_allclose(found["output"][0, :, 0], outputs, rtol=1e-6)
    np.testing.assert_allclose(found["input"][0, :, 0], back, rtol=1e-6)


def test_channels_become_pixels(backend):
    """Four channels are one block of 2 x 2, row by row; the next four are another channel."""
    x = np.arange(16.0).reshape(1, 1, 2, 8)
    found = passes(Network([PixelShuffle(2)], (1, 2, 8), backend), x, np.zeros((1, 2, 4, 2)))
    np.testing.assert_array_equal(found["output"][0, ..., 0], [[0, 1, 8, 9], [2, 3, 10, 11]])
    np.testing.assert_array_equal(found["output"][0, ..., 1], [[4, 5, 12, 13], [6, 7, 14, 15]])


@pytest.mark.width
@pytest.mark.parametrize(
    ("layer", "share"), [(AdaptiveAveragePool(2), 2 / 4096), (UpSampling(4096), 4096.0)], ids=repr
)
def test_sums_of_halves_are_worked_out_wider(backend, layer, share):
    """Of 2048 and of 4096 numbers, of which half precision counts no more than 2048 ones."""
    made = type(layer)(**layer.arguments())
    try:
        network = Network([made], (4096, 1), backend, dtype="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    ones = (np.ones((1, *shape), np.float16) for shape in ((4096, 1), network.output_shape))
    found = passes(network, *ones)
    np.testing.assert_allclose(found["output"], 1.0, rtol=1e-3)
    np.testing.assert_allclose(found["input"], share, rtol=1e-3)


def test_nearest_copies_what_it_is_given(backend):
    x = np.array([np.inf, -np.inf, 1e38, 1 / 3], np.float32)
    network = Network([UpSampling(3)], (4, 1), backend)
    found = backend.to_numpy(network.forward(x[None, :, None]))
    np.testing.assert_array_equal(found[0, :, 0], np.repeat(x, 3))


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (lambda: UpSampling(2), (8,), r"\(\*positions, channels\), got \(8,\); put a Reshape"),
        (lambda: UpSampling((2, 2)), (8, 3), r"for 2 axes beside the channels, got .* \(8, 3\)"),
        (lambda: ZeroPadding((1, 2)), (4, 4, 4, 1), "for 2 axes .* give it one number for all"),
        (lambda: AdaptiveAveragePool((7, 7)), (9, 1), "for 2 axes beside the channels"),
        (lambda: Cropping(2), (4, 9, 1), r"Cropping\(2\) cuts all of the inputs away"),
        (lambda: PixelShuffle(2), (4, 4, 6), "lays 4 channels out .* a multiple of that many"),
    ],
)
def test_shapes_that_do_not_fit_are_explained(make, shape, words):
    with pytest.raises(ShapeError, match=words):
        Network([make()], shape)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UpSampling(0), "factor is an integer of at least 1, got 0"),
        (lambda: UpSampling((2, 0)), "factor is an integer, or 2 of them, of at least 1"),
        (lambda: UpSampling(2, mode="cubic"), "mode='nearest' and 'linear', got 'cubic'"),
        (lambda: PixelShuffle(1.5), "factor is an integer of at least 1, got 1.5"),
        (lambda: AdaptiveAveragePool(None), "size is an integer of at least 1, got None"),
        (lambda: ZeroPadding(-1), "sides is an integer of at least 0, got -1"),
        (lambda: ZeroPadding((1, (1, 2, 3))), r"sides is an integer, or 2 of them, .* \(1, 2, 3\)"),
        (lambda: Cropping("same"), "sides is an integer of at least 0, got 'same'"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


# Planted bugs -------------------------------------------------------------------------------------


class ForgetsTheEdge(UpSampling):
    """Its way back lets go of what the first position gave beyond the edge."""

    def backward(self, delta):
        back = super().backward(delta)
        return back - 0.25 * delta[:, :1, :] * (self.xp.arange(back.shape[1]) == 0)[None, :, None]


class TurnsTheBlocks(PixelShuffle):
    def backward(self, delta):
        return super().backward(self.xp.permute_dims(delta, (0, 2, 1, 3)))


@pytest.mark.parametrize(
    ("bug", "options", "shape"),
    [(ForgetsTheEdge, {"mode": "linear"}, (3, 2)), (TurnsTheBlocks, {}, (2, 2, 4))],
)
def test_planted_bugs_are_found(bug, options, shape):
    with pytest.raises(GradientError):
        check_gradients(bug(**options), shape, get_backend("numpy"))
    assert check_gradients(bug.__base__(**options), shape).error < 1e-6
