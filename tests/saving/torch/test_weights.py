"""Weights of torch.nn: the same predictions, the same training step, and back again."""

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import SGD, Network, make_train_step, mean_squared_error
from xpnn.layers import (
    GELU,
    GRU,
    LSTM,
    AdaptiveAveragePool,
    BatchNorm,
    Bidirectional,
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LearnedPositions,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MultiHeadAttention,
    PixelShuffle,
    PReLU,
    ReLU,
    Reshape,
    RMSNorm,
    SeparableConv1D,
    Sequential,
    SimpleRNN,
    Tanh,
    TiedDense,
    TransformerBlock,
    UpSampling,
    WeightNorm,
    ZeroPadding,
)
from xpnn.saving import load_torch_weights, save_torch_weights

RATE = 0.1


def images_in(x):
    """Channels last, as xpnn has them, to channels first."""
    return np.moveaxis(x, -1, 1)


def same(x):
    return x


# Each: our layers, the input shape, their module, how it reads our x, and names where they differ.


def mlp():
    from torch import nn

    theirs = nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 8), nn.BatchNorm1d(8),
        nn.Linear(8, 3, bias=False),
    )  # fmt: skip
    ours = [Dense(8), Tanh(), LayerNorm(), Dense(8), BatchNorm(), Dense(3, use_bias=False)]
    return ours, (5,), theirs, same, None


def cnn():
    from torch import nn

    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, (3, 2), groups=2), nn.GroupNorm(3, 6), nn.Flatten(), nn.ReLU(),
        nn.BatchNorm1d(24), nn.Linear(24, 5),
    )  # fmt: skip
    ours = [
        *(Conv2D(4, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2)),
        *(Conv2D(6, (3, 2), groups=2), GroupNorm(3), Flatten(), ReLU(), BatchNorm(), Dense(5)),
    ]
    return ours, (8, 6, 2), theirs, images_in, None


def styled():
    from torch import nn

    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.PReLU(4), nn.Flatten(),
        nn.PReLU(48), nn.PReLU(), nn.Linear(48, 5),
    )  # fmt: skip
    ours = [Conv2D(4, 3), InstanceNorm(), PReLU(), Flatten(), PReLU(), PReLU(shared=True), Dense(5)]
    return ours, (6, 5, 2), theirs, images_in, None


def normed():
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    theirs = nn.Sequential(
        weight_norm(nn.Conv2d(2, 4, 3)), nn.Tanh(), weight_norm(nn.ConvTranspose2d(4, 3, 2), dim=1),
        nn.Flatten(), weight_norm(nn.Linear(60, 5)), nn.Tanh(),
        weight_norm(nn.Linear(5, 2, bias=False)),
    )  # fmt: skip
    ours = [
        *(WeightNorm(Conv2D(4, 3)), Tanh(), WeightNorm(ConvTranspose2D(3, 2)), Flatten()),
        *(WeightNorm(Dense(5)), Tanh(), WeightNorm(Dense(2, use_bias=False))),
    ]
    return ours, (5, 6, 2), theirs, images_in, None


def activated():
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(24, 6), nn.ReLU(),
        nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.PReLU(5), nn.Linear(5, 2)), nn.Linear(2, 2),
    )  # fmt: skip
    ours = [
        *(Conv2D(4, 3, activation="prelu"), Flatten(), Dense(6, activation="relu")),
        *(Sequential([WeightNorm(Dense(5, activation=PReLU)), Dense(2)]), Dense(2)),
    ]
    return ours, (4, 5, 2), theirs, images_in, None


def decoder():
    from torch import nn

    theirs = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.ReLU(), nn.Flatten(1), nn.Linear(294, 3)
    )
    return [ConvTranspose2D(6, 3, stride=2, groups=2), ReLU(), Reshape((-1,)), Dense(3)], (
        3, 3, 4,
    ), theirs, images_in, None  # fmt: skip


def signal():
    from torch import nn

    theirs = nn.Sequential(
        nn.ConvTranspose1d(2, 3, 3),
        nn.Sequential(nn.Conv1d(3, 6, 2, groups=3, bias=False), nn.Conv1d(6, 3, 1)),
        nn.Conv1d(3, 4, 2), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    ours = [
        *(ConvTranspose1D(3, 3), SeparableConv1D(3, 2, multiplier=2)),
        *(Conv1D(4, 2), MaxPool1D(2), Flatten(), Dense(2)),
    ]
    return ours, (5, 2), theirs, images_in, None


def volumes():
    from torch import nn

    theirs = nn.Sequential(
        nn.Conv3d(2, 4, (1, 2, 3), groups=2), nn.MaxPool3d((1, 2, 1)),
        nn.ConvTranspose3d(4, 2, (2, 1, 2), groups=2), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    ours = [
        *(Conv3D(4, (1, 2, 3), groups=2), MaxPool3D((1, 2, 1))),
        *(ConvTranspose3D(2, (2, 1, 2), groups=2), Flatten(), Dense(3)),
    ]
    return ours, (2, 3, 5, 2), theirs, images_in, None


def pooled():
    from torch import nn

    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return (
        [Conv2D(4, 2), GlobalAveragePool(), Flatten(), Dense(2)],
        (4, 4, 2),
        theirs,
        images_in,
        None,
    )


def resized():
    from torch import nn

    theirs = nn.Sequential(
        nn.Conv2d(2, 8, 1), nn.PixelShuffle(2), nn.ZeroPad2d(1), nn.Upsample(scale_factor=2),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, 2),
    )  # fmt: skip
    ours = [
        *(Conv2D(8, 1), PixelShuffle(2), ZeroPadding(1), UpSampling(2)),
        *(AdaptiveAveragePool(3), Flatten(), Dense(2)),
    ]
    return ours, (3, 2, 2), theirs, images_in, None


def recurrent(kind, ours, **options):
    import torch
    from torch import nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = getattr(nn, kind)(3, 4, batch_first=True, **options)
            self.head = nn.Linear(8 if options.get("bidirectional") else 4, 2)
            for name, value in self.body.named_parameters():
                if name.startswith("bias_hh") and kind != "GRU":
                    value.requires_grad_(False)  # or the sum of two biases learns twice as fast

        def forward(self, x):
            return self.head(torch.tanh(self.body(x)[0]))

    layers = [*ours, Tanh(), Dense(2)]
    inside = [f"{k}.{type(layer).__name__.lower()}" for k, layer in enumerate(ours)]
    names = {"body": inside if len(inside) > 1 else inside[0], "head": f"{len(ours) + 1}.dense"}
    return layers, (5, 3), Theirs(), same, names


def lstm():
    return recurrent("LSTM", [LSTM(4, return_sequences=True)])


def stacked():
    return recurrent("LSTM", [LSTM(4, return_sequences=True) for _ in range(2)], num_layers=2)


def bidirectional():
    return recurrent("GRU", [Bidirectional(GRU(4, return_sequences=True))], bidirectional=True)


def rnn():
    return recurrent("RNN", [SimpleRNN(4, return_sequences=True, use_bias=False)], bias=False)


def transformer():
    from torch import nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 8)
            self.place = nn.Embedding(5, 8)
            one = nn.TransformerEncoderLayer(
                8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 9)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.norm(self.encoder(self.embed(x) + self.place.weight)))

    ids = Embedding(9, 8)
    blocks = [TransformerBlock(8, 2, hidden=12, activation=GELU) for _ in range(2)]
    ours = [ids, LearnedPositions(), *blocks, LayerNorm(), TiedDense(9, ids)]
    names = {"embed": "0", "place": "1", "encoder.layers.0": "2", "encoder.layers.1": "3"}
    return ours, (5,), Theirs(), same, {**names, "norm": "4.layernorm", "head": "5.tieddense"}


def block_norm_last():
    from torch import nn

    theirs = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True), nn.RMSNorm(8, eps=1e-6)
    )
    block = TransformerBlock(8, 2, hidden=12, norm_first=False, activation=ReLU)
    return [block, RMSNorm()], (4, 8), theirs, same, None


def attention():
    from torch import nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.look(x, x, x)[0]

    return [MultiHeadAttention(2)], (4, 8), Theirs(), same, {"look": "0"}


def nested():
    from torch import nn

    theirs = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()),
        nn.Flatten(),
        nn.Sequential(nn.Dropout(0.0), nn.Linear(12, 4)),
    )
    ours = [Sequential([Conv2D(3, 1), ReLU()]), Flatten(), Sequential([Dropout(0.0), Dense(4)])]
    return ours, (2, 2, 2), theirs, images_in, None


PAIRS = [
    *(mlp, cnn, styled, normed, activated, decoder, signal, volumes, resized, pooled),
    *(lstm, stacked, bidirectional, rnn),
    *(transformer, block_norm_last, attention, nested),
]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)


def drawn(pair, backend="numpy"):
    """Our network, theirs with random weights, a batch for each, and names."""
    import torch

    torch.manual_seed(3)
    layers, shape, theirs, read, names = pair()
    with torch.no_grad():
        for value in [*theirs.parameters(), *theirs.buffers()]:
            if value.is_floating_point():
                value.copy_(0.3 + 0.4 * torch.rand_like(value))
    network = Network(layers, shape, backend)
    rng = np.random.default_rng(0)
    if network.root.takes == "integers":
        x = rng.integers(0, 9, (4, *shape))
    else:
        x = rng.standard_normal((4, *shape)).astype(np.float32)
    return network, theirs, x, torch.tensor(np.ascontiguousarray(read(x))), names


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def predictions_agree(network, theirs, x, x_there):
    import torch

    theirs.eval()
    with torch.no_grad():
        wanted = theirs(x_there).numpy()
    if wanted.ndim == 4:
        wanted = np.moveaxis(wanted, 1, -1)
    close(network.backend.to_numpy(network.predict(x)), wanted)


@pytest.mark.slow_to_compile
@needs("torch")
@each_pair
def test_predictions_and_a_training_step_agree(backend, pair):
    import torch

    network, theirs, x, x_there, names = drawn(pair, backend)
    load_torch_weights(network, theirs.state_dict(), names)
    predictions_agree(network, theirs, x, x_there)
    y = np.random.default_rng(1).standard_normal((4, *network.output_shape)).astype(np.float32)
    step = make_train_step(network, mean_squared_error, SGD(RATE))
    opt_state = SGD(RATE).init(network.params, network.backend)
    params, state, _, _ = step(
        network.params, network.state, opt_state, network.asarray(x), backend.asarray(y)
    )
    network.params, network.state = params, state
    theirs.train()
    optimizer = torch.optim.SGD(theirs.parameters(), RATE)
    torch.nn.functional.mse_loss(theirs(x_there), torch.tensor(y)).backward()
    optimizer.step()
    predictions_agree(network, theirs, x, x_there)


@needs("torch")
@each_pair
def test_there_and_back_through_files(tmp_path, pair):
    """What we write their loader takes, and what they write ours does."""
    import safetensors.torch

    network, theirs, x, x_there, names = drawn(pair)
    save_torch_weights(network, tmp_path / "ours.safetensors", names)
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))
    predictions_agree(network, theirs, x, x_there)
    _, theirs, *_ = drawn(pair)
    safetensors.torch.save_model(theirs, str(tmp_path / "theirs.safetensors"))
    load_torch_weights(network, tmp_path / "theirs.safetensors", names)
    predictions_agree(network, theirs, x, x_there)


@needs("torch")
@each_pair
def test_our_own_files_are_read_in_order(tmp_path, pair):
    """What is written without names is numbered, and needs none to be read."""
    network, *_ = drawn(pair)
    save_torch_weights(network, tmp_path / "w")
    before = network.numpy_arrays()
    network.load({name: np.asarray(value) * 0 for name, value in before.items()})
    load_torch_weights(network, tmp_path / "w")
    for name, value in network.numpy_arrays().items():
        if not name.endswith(".draw"):
            np.testing.assert_array_equal(value, before[name])


@needs("torch")
def test_a_module_is_not_its_state_dict(tmp_path):
    import torch

    network, theirs = (
        Network([Dense(2)], (3,)),
        torch.nn.Sequential(torch.nn.Linear(3, 2)),
    )
    with pytest.raises(TypeError, match=r"got Sequential; write like=module.state_dict\(\)"):
        save_torch_weights(network, tmp_path / "w.safetensors", like=theirs)
    save_torch_weights(network, tmp_path / "w.safetensors", like=theirs.state_dict())


@needs("torch")
@each_pair
def test_back_to_the_names_of_a_module(pair, tmp_path):
    """Trained here, its file is one that the module loads as it is, by its own names."""
    import torch
    from safetensors.torch import load_file

    network, theirs, _, x_torch, names = drawn(pair)
    load_torch_weights(network, theirs.state_dict(), names)
    wanted = theirs.eval()(x_torch).detach()
    path = tmp_path / "w.safetensors"
    save_torch_weights(network, path, names, like=theirs.state_dict())
    with torch.no_grad():
        for value in theirs.parameters():
            value.zero_()
    theirs.load_state_dict(load_file(path))
    close(theirs(x_torch).detach(), wanted)
    if names is None:
        return
    save_torch_weights(network, path, names)
    loaded = load_file(path)
    assert {*theirs.state_dict()} <= {*loaded}
