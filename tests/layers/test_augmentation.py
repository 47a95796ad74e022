"""Images that are flipped, shifted, cropped and covered, against NumPy's slices of each image."""

import numpy as np
import pytest

from tests.layers.oracles import passes
from xpnn import Cutout, Dense, Network, RandomCrop, RandomFlip, RandomShift
from xpnn.errors import ShapeError
from xpnn.testing import training_curve

HEIGHT, WIDTH = 4, 5
MANY = 4000


def padded(image, rows, columns):
    return np.pad(image, ((rows, rows), (columns, columns), (0, 0)))


def windows(image, height, width):
    """All windows of an image, by their corner."""
    for r in range(image.shape[0] - height + 1):
        for c in range(image.shape[1] - width + 1):
            yield image[r : r + height, c : c + width]


def flipped(image):
    return [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]


def covered(image):
    """Where the middle of 2 by 3 pixels is each pixel: 1 in front of it, 0 and 1 behind."""
    for r in range(HEIGHT):
        for c in range(WIDTH):
            out = image.copy()
            out[max(r - 1, 0) : r + 1, max(c - 1, 0) : c + 2] = 0
            yield out


ROWS = [  # how to make it, and what an image may become, each as often
    pytest.param(lambda: RandomFlip(0.5, vertical=0.5), flipped, id="flip"),
    pytest.param(lambda: RandomFlip(), lambda image: flipped(image)[:2], id="flip-across"),
    pytest.param(
        lambda: RandomShift((1, 2)),
        lambda image: windows(padded(image, 1, 2), HEIGHT, WIDTH),
        id="shift",
    ),
    pytest.param(
        lambda: RandomCrop((3, 2)), lambda image: windows(image, 3, 2), id="crop"
    ),
    pytest.param(
        lambda: RandomCrop((HEIGHT, 3), padding=(1, 0)),
        lambda image: windows(padded(image, 1, 0), HEIGHT, 3),
        id="crop-padded",
    ),
    pytest.param(lambda: Cutout((2, 3)), covered, id="cutout"),
]  # fmt: skip
each_row = pytest.mark.parametrize(("make", "outcomes"), ROWS)


@each_row
def test_all_that_may_come_comes_as_often(backend, make, outcomes):
    """One image many times, forward; and backward, where each pixel's delta has to go."""
    image = np.arange(1.0, 1 + 2 * HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 2).astype(np.float32)
    network = Network([make()], image.shape, backend)
    delta = np.random.default_rng(0).standard_normal((MANY, *network.output_shape))
    delta = delta.astype(np.float32)
    found = passes(network, np.repeat(image[None], MANY, axis=0), delta)
    wanted = {one.tobytes(): number for number, one in enumerate(map(np.array, outcomes(image)))}
    numbers = np.array([wanted[one.tobytes()] for one in found["output"]])
    share = 1 / len(wanted)
    shares = np.bincount(numbers, minlength=len(wanted)) / MANY
    assert np.max(np.abs(shares - share)) < 5 * np.sqrt(share * (1 - share) / MANY)  # deviations
    for k in range(0, MANY, 97):
        back = np.zeros(image.size + 1, np.float32)  # at each pixel's number; 0 is outside
        np.add.at(back, found["output"][k].astype(int).reshape(-1), delta[k].reshape(-1))
        np.testing.assert_array_equal(found["input"][k], back[1:].reshape(image.shape))


@each_row
def test_one_seed_draws_the_same_on_every_backend(backend, make, outcomes):
    x = np.random.default_rng(1).standard_normal((6, HEIGHT, WIDTH, 2)).astype(np.float32)
    networks = [Network([make()], x.shape[1:], place, seed=7) for place in (backend, "numpy")]
    for _ in range(2):
        here, there = (one.backend.to_numpy(one.forward(x, training=True)) for one in networks)
        np.testing.assert_array_equal(here, there)


def test_prediction_sees_images_as_they_are_and_the_middle_of_what_is_cropped(backend):
    x = np.random.default_rng(1).standard_normal((3, HEIGHT, WIDTH, 2)).astype(np.float32)

    def predicted(layer):
        return backend.to_numpy(Network([layer], x.shape[1:], backend).predict(x))

    for layer in (RandomFlip(1.0), RandomShift(2), Cutout(3), RandomCrop((HEIGHT, WIDTH), 2)):
        np.testing.assert_array_equal(predicted(layer), x)
    np.testing.assert_array_equal(predicted(RandomCrop(2)), x[:, 1:3, 1:3])
    np.testing.assert_array_equal(predicted(RandomCrop((6, 5), padding=1))[:, 1:5], x)


def test_training_follows_numpy(backend):
    def layers():
        drawn = [RandomFlip(0.5, 0.5), RandomCrop(3, padding=1), Cutout(2, rate=0.5)]
        return [*drawn, Dense(3), RandomShift(1)]

    curve, reference = (training_curve(layers, (3, 4, 2), place) for place in (backend, "numpy"))
    np.testing.assert_allclose(curve, reference, rtol=1e-5)


def test_bad_arguments_are_explained():
    with pytest.raises(ShapeError, match=r"wants images, inputs of shape \(height, width, channel"):
        Network([RandomFlip()], (28, 28))
    with pytest.raises(ShapeError, match=r"cuts windows of \(9, 9\) pixels, .* smaller; take a"):
        Network([RandomCrop(9, padding=1)], (8, 6, 1))
    with pytest.raises(ShapeError, match="draws from 65,536 places along an axis at most"):
        Network([RandomShift(40_000)], (8, 6, 1))
    with pytest.raises(ValueError, match=r"RandomFlip needs vertical in \[0, 1\], got vertical=2"):
        RandomFlip(vertical=2.0)
    with pytest.raises(ValueError, match=r"Cutout needs rate in \[0, 1\], got rate=-0.5"):
        Cutout(3, rate=-0.5)
    with pytest.raises(ValueError, match="size is an integer, or 2 of them, of at least 1, got 0"):
        RandomCrop(0)
