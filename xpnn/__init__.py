"""xpnn: neural networks with hand-written backprop, on the arrays you already have.

::

    import xpnn
    from xpnn import Adam, Dense, Network, ReLU, Trainer

    x, y = xpnn.datasets.digits()
    net = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,), backend="numpy", seed=0)
    trainer = Trainer(net, loss=xpnn.cross_entropy, optimizer=Adam(1e-3))
    history = trainer.fit(x, y, epochs=20, validation=0.2)

The names below stand in the order in which data flows: arrays, layers, losses, the network, what
trains it, and the data.
"""

from xpnn import data as data
from xpnn import initializers as initializers
from xpnn import metrics as metrics
from xpnn.backends import Backend as Backend
from xpnn.backends import get_backend as get_backend
from xpnn.data import datasets as datasets
from xpnn.data import split as split
from xpnn.errors import *  # noqa: F403  (the whole tree is public)
