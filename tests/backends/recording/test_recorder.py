"""A step recorded for another backend, and its kernels' calls run by NumPy, is the step itself."""

import numpy as np

from tests.backends.numpy.test_layers import draw
from tests.backends.recording.test_kernels import known, run
from tests.layers.table import each_layer, each_layer_that_slides
from xpnn import get_backend, mean_squared_error
from xpnn.backends.recording.kernels import KernelGroups
from xpnn.backends.recording.recorder import Recorder
from xpnn.backends.recording.recording import Recording
from xpnn.layers import Dense, Flatten
from xpnn.network import Network
from xpnn.optimizers import Adam
from xpnn.training.stepping.step import make_train_step
from xpnn.trees import Structure, tree_map


class Convolving(type(get_backend("numpy"))):
    """A backend that has convolutions of its own, on images that lie batch first."""

    positions_first = False


@each_layer
def test_layer(make, input_shape):
    check(make, input_shape, get_backend("numpy"))


@each_layer_that_slides
def test_layer_where_a_library_convolves(make, input_shape):
    check(make, input_shape, Convolving())


def check(make, input_shape, target):
    network = Network([make(), Flatten(), Dense(2)], input_shape, "numpy", seed=1)
    twin, optimizer = network.blank_on(Recorder(target)), Adam(0.01, epsilon=1e-2)
    x, y = draw(input_shape, 4, 0), draw((2,), 4, 1)
    given = (
        {name: np.copy(one) for name, one in network.params.items()},
        tree_map(np.asarray, network.state),
        optimizer.init(network.params, twin.backend),
        *(np.asarray(one) for one in (x, y)),
    )
    form = Structure(given)
    step = make_train_step(twin, mean_squared_error, optimizer, compile=False)
    recording = Recording(step, form, form.flatten(given), donate=(0, 1, 2))
    found = run(KernelGroups(recording, known), recording, form.flatten(given))
    eager = make_train_step(network, mean_squared_error, optimizer, compile=False)
    held = {name: np.copy(one) for name, one in network.params.items()}
    slots = optimizer.init(network.params, network.backend)
    wanted = (eager(held, network.state, slots, x, y),)
    for one, other in zip(found, Structure(wanted).flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
