"""Names of Keras and PyTorch: the error says what to write here, and that works."""

import re
from functools import partial

import numpy as np
import pytest

import xpnn
from xpnn.initializers import he_normal, zeros
from xpnn.names_elsewhere import ATTRIBUTES, ELSEWHERE, WITHOUT

pytestmark = pytest.mark.host_only

X, Y = np.ones((8, 3), np.float32), np.arange(8) % 2
NAMES = {**vars(xpnn), "he_normal": he_normal, "zeros": zeros, "x": X, "y": Y}


def network(**more):
    return xpnn.Network([xpnn.Dense(2)], (3,), **more)


def trainer(**more):
    parts = {"network": network(), "loss": xpnn.cross_entropy, "optimizer": xpnn.SGD(), **more}
    return xpnn.Trainer(**parts)


def fit(**more):
    return trainer().fit(X, Y, **{"progress": False, **more})


CALLS = {  # which call to try a name with, and those whose argument was meant
    **dict.fromkeys(["validation_split", "validation_data", "verbose", "batch"], fit),
    **dict.fromkeys(["nb_epoch", "num_epochs", "class_weight", "initial_epoch"], fit),
    **dict.fromkeys(["learning_rate", "lr", "global_clipnorm", "clipvalue"], xpnn.SGD),
    **dict.fromkeys(["beta_1", "beta_2", "betas", "eps"], xpnn.Adam),
    "alpha": xpnn.optimizers.RMSprop,
    "model": lambda **named: xpnn.Trainer(
        **{"loss": xpnn.cross_entropy, "optimizer": xpnn.SGD(), **named}
    ),
    "criterion": lambda **named: xpnn.Trainer(
        **{"network": network(), "optimizer": xpnn.SGD(), **named}
    ),
    "device": network,
    "out_features": xpnn.Dense,
    "hidden_size": xpnn.LSTM,
    "units": lambda **named: xpnn.Conv2D(kernel_size=3, **named),
    "out_channels": lambda **named: xpnn.ConvTranspose2D(kernel_size=3, **named),
    "kernel": lambda **named: xpnn.Conv2D(8, **named),
    "p": xpnn.Dropout,
    "num_embeddings": lambda **named: xpnn.Embedding(features=3, **named),
    "input_dim": lambda **named: xpnn.Embedding(features=3, **named),
    "embedding_dim": lambda **named: xpnn.Embedding(5, **named),
    "output_dim": lambda **named: xpnn.Embedding(5, **named),
    "embeddings_initializer": lambda **named: xpnn.Embedding(5, 3, **named),
    "num_heads": xpnn.MultiHeadAttention,
    "num_groups": xpnn.GroupNorm,
    "scale_factor": xpnn.UpSampling,
    "go_backwards": lambda **named: xpnn.GRU(3, **named),
    "min_delta": xpnn.EarlyStopping,
    "depth_multiplier": lambda **named: xpnn.SeparableConv2D(4, 3, **named),
    **dict.fromkeys(
        ["strides", "dilation_rate", "bias", "bias_initializer", "in_channels", "data_format"],
        lambda **named: xpnn.Conv2D(8, 3, **named),
    ),
    **dict.fromkeys(
        ["kernel_initializer", "in_features", "input_shape", "kernel_regularizer"],
        lambda **named: xpnn.Dense(4, **named),
    ),
    **dict.fromkeys(["input_size", "batch_first"], lambda **named: xpnn.LSTM(4, **named)),
    "num_features": xpnn.BatchNorm,
    "inplace": xpnn.ReLU,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_name_of_another_library_is_answered_with_ours(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'; it is") as caught:
        CALLS[name](**{name: 1})
    said = re.search(r"here write (.*)$", str(caught.value))
    assert bool(said) == (name in ELSEWHERE)
    if said:
        CALLS[name](**eval(f"dict({said[1]})", {**NAMES, "network": network()}))


def test_there_is_a_row_for_each_name():
    assert {*CALLS} == {*ELSEWHERE, *WITHOUT}


def test_names_that_no_library_has():
    with pytest.raises(TypeError, match=r"^Dense got .* argument 'unit', did you mean 'units'\?$"):
        xpnn.Dense(unit=3)
    with pytest.raises(TypeError, match=r"^fit got an unexpected keyword argument 'colour'$"):
        fit(colour="red")
    with pytest.raises(TypeError, match=r"^SGD got .* argument 'momentun', did you mean 'momentum"):
        xpnn.SGD(0.1, momentun=0.9)


def test_what_only_fit_takes():
    for call in (network().predict, trainer().predict, trainer().evaluate):
        with pytest.raises(TypeError, match="'verbose'; it is Keras's name, leave it out"):
            call(X, verbose=0)


def test_a_name_is_not_answered_with_what_a_call_does_not_take():
    with pytest.raises(TypeError, match=r"^ReLU got an unexpected keyword argument 'lr'$"):
        xpnn.ReLU(lr=0.1)


def test_what_a_class_of_ones_own_hands_on():
    class Wide(xpnn.Dense):
        def __init__(self):
            super().__init__(units=64, bias=False)

    with pytest.raises(TypeError, match=r"argument 'bias'; .* write use_bias=False$"):
        Wide()


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in ATTRIBUTES.items() for name in names]
)
def test_an_attribute_of_another_library_is_answered_with_a_line_that_runs(kind, name):
    one, two = network(), trainer(loss="cross_entropy")
    made = {"Network": one, "Trainer": two, "History": two.fit(X, Y, progress=False)}
    assert not hasattr(made[kind], name)
    with pytest.raises(AttributeError, match=f"^{kind} has no attribute '{name}'") as caught:
        getattr(made[kind], name)
    if said := re.search(r": write (.*)$", str(caught.value)):
        given = {"network": one, "trainer": two, "history": made["History"]}
        eval(said[1], {**NAMES, **given, "arrays": one.numpy_arrays()})


def test_other_attributes_are_missing_as_ever():
    with pytest.raises(AttributeError, match=r"^'Network' object has no attribute 'forwrd'$"):
        _ = network().forwrd


def test_more_arguments_than_are_taken_in_order():
    with pytest.raises(TypeError, match=r"^Dense takes units in order and all else by name, got 2"):
        xpnn.Dense(64, 32)
    with pytest.raises(TypeError, match=r"^ReLU takes nothing in order"):
        xpnn.ReLU(64)


def test_an_argument_in_order_and_by_name():
    said = (
        r"^Network takes layers, .* in order or by name, got both: Dense\(2\) and input_shape=\(3,"
    )
    with pytest.raises(TypeError, match=said):
        xpnn.Network(xpnn.Dense(8), xpnn.Dense(2), input_shape=(3,))


@pytest.mark.parametrize(
    "kind", [partial(xpnn.Network, input_shape=(3,)), xpnn.Sequential, xpnn.Residual]
)
def test_a_layer_in_place_of_a_list(kind):
    with pytest.raises(
        TypeError, match=r"wants a list of layers, got Dense\(3\); write \[Dense\(3\), "
    ):
        kind(xpnn.Dense(3))
