"""What a child process does: trains on, and predicts. A module, so that spawn can import it."""

import numpy as np

import xpnn
from xpnn import Adam, Dense, Dropout, Network, ReLU, Trainer

X = np.random.default_rng(0).random((64, 8), dtype=np.float32)
Y = np.arange(64) % 3


def make_trainer(spec):
    """A small network and its trainer; NumPy replays its steps."""
    network = Network([Dense(16), ReLU(), Dropout(0.2), Dense(3)], (8,), spec)
    return Trainer(network, xpnn.cross_entropy, Adam(1e-2))


def train(trainer):
    """Two epochs more."""
    return trainer.fit(X, Y, epochs=2, batch_size=16, progress=False)["loss"]


def work(trainer, answers):
    """Train what came along, or was inherited, and send what came of it."""
    network = trainer.network
    before = network.backend.to_numpy(network.predict(X)).copy()
    answers.send((before, train(trainer), network.numpy_arrays()))


def work_on_network(network, answers):
    """Train a network that was pickled, with an optimizer that starts anew."""
    work(Trainer(network, xpnn.cross_entropy, Adam(1e-2)), answers)


def make_and_work(spec, answers):
    """Make a network here, from the name of a backend and a seed."""
    work(make_trainer(spec), answers)
