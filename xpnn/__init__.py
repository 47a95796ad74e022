"""xpnn: neural networks with hand-written backprop, on the arrays you already have.

::

    import xpnn
    from xpnn import Adam, Dense, Network, ReLU, Trainer

    x, y = xpnn.datasets.digits()
    net = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,), backend="numpy", seed=0)
    trainer = Trainer(net, loss=xpnn.cross_entropy, optimizer=Adam(1e-3))
    history = trainer.fit(x, y, epochs=20, validation=0.2)

The imports below stand in the order in which data flow: arrays, layers, losses, the network, what
trains it. ``xpnn.guide`` and ``xpnn.testing`` are imported by name.
"""

from xpnn import data, initializers, metrics
from xpnn.backends import Backend, get_backend
from xpnn.data import datasets, split
from xpnn.errors import (
    BackendUnavailable,
    DataError,
    NotBuiltError,
    ShapeError,
    TrainingStopped,
    XpnnError,
)
from xpnn.layers import (
    ELU,
    GELU,
    GRU,
    L1,
    L2,
    LSTM,
    Activation,
    AlphaDropout,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Bidirectional,
    Container,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    LearnedPositions,
    Masked,
    MaxNorm,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Parallel,
    Recurrent,
    ReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    SimpleRNN,
    SinusoidalPositions,
    Softmax,
    Softplus,
    SpatialDropout,
    Tanh,
    TiedDense,
    TransformerBlock,
)
from xpnn.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    quadratic_cost,
)
from xpnn.metrics import F1, MAE, R2, Accuracy, Metric, Precision, Recall, TopK
from xpnn.network import Network
from xpnn.generation import generate
from xpnn.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    ClipByValue,
    Constant,
    Cosine,
    Exponential,
    Linear,
    Lion,
    NAdam,
    OneCycle,
    Optimizer,
    ReduceOnPlateau,
    RMSprop,
    Schedule,
    StepDecay,
    WarmUp,
    every_parameter,
    matrices_only,
)
from xpnn.training import (
    BestWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    ProgressBar,
    StopOnNaN,
    Trainer,
    make_train_step,
)
from xpnn.training.checkpoint import load_weights, save_weights

__version__ = "0.1.0"

__all__ = [name for name in globals() if not name.startswith("_")]
