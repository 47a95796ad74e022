"""Layers of users in files, and what cannot be put into one."""

import numpy as np
import pytest

import xpnn
from tests.saving.conftest import description_in, same_values
from xpnn.errors import FileError, XpnnError
from xpnn.initializers import constant, normal
from xpnn.layers import GELU, KINDS, Dense, Layer, Sequential, Tanh, TiedDense, TransformerBlock
from xpnn.layers.regularization import Penalty
from xpnn.network import Network
from xpnn.saving import making

SCALE, DRAW = constant(1.0), normal(0.1)


class Scale(Layer):
    """A layer by the convention: attributes are called like arguments."""

    def __init__(self, size=1.0, *, init=SCALE, names=(), options=None):
        super().__init__()
        self.size, self.init, self.names, self.options = size, init, names, options

    def init_params(self, input_shape, rng):
        return {"scale": self.init(input_shape[-1:], rng)}

    def forward(self, inputs, training=False):
        return self.size * inputs * self.params["scale"]


class Wrapped(Sequential):
    """A container that makes its own layers from a class, and keeps arguments otherwise."""

    def __init__(self, kind, *, weight_init=DRAW):
        super().__init__([kind(), Dense(3, weight_init=weight_init)])
        self.kind, self.weight_init = kind, weight_init


class Cube(Penalty):
    """A penalty of a user's."""


def test_layers_of_users_take_part(backend, path):
    inf = float("inf")
    first = Scale(np.float32(0.5), names=("a", [1, None]), options={"x": -inf, "y": np.int64(3)})
    network = Network([first, Wrapped(Tanh), Dense(2).regularize(Cube(2))], (3,), backend)
    network.save(path)
    twin = xpnn.load(path, backend)
    same_values(twin, network)
    scale, wrapped, last = twin.layers
    assert (scale.size, scale.names) == (0.5, ("a", [1, None]))
    assert scale.options == {"x": -inf, "y": 3}
    assert isinstance(wrapped.layers[0], Tanh)
    assert last.regularizers[0].strength == 2.0
    twin.save(path)
    same_values(xpnn.load(path, backend), network)


def test_an_initializer_of_a_user_is_left_out(path):
    Network([Dense(3, weight_init=lambda shape, rng: np.ones(shape)), Wrapped(Tanh)], (3,)).save(
        path
    )
    assert "weight_init" not in description_in(path)["layers"][0]["arguments"]
    twin = xpnn.load(path)
    np.testing.assert_array_equal(twin.params["0.dense.weight"], 1)


def test_a_class_that_is_registered_again_can_still_be_saved(path):
    """As where a cell of a notebook is run again, while networks of its first class are trained."""

    def cell():
        @xpnn.register("tests.Again")
        class Again(Tanh):
            pass

        return Again

    first, second = cell(), cell()
    for kind in (first, second):
        Network([kind(), Dense(2)], (3,)).save(path)
        assert type(xpnn.load(path).layers[0]) is second

    class Again(first):
        """Not registered itself."""

    with pytest.raises(XpnnError, match="a kind of layer that has no name in files"):
        Network([Again()], (3,)).save(path)


def test_an_unknown_layer_is_named(path, monkeypatch):
    Network([Scale()], (3,)).save(path)
    monkeypatch.delitem(KINDS, "tests.Scale")
    with pytest.raises(FileError, match=r"'tests.Scale', which is not known here; import the mod"):
        xpnn.load(path)


class Nameless(Tanh):
    """Not registered."""


class Forgetful(Tanh):
    """Does not keep its argument."""

    def __init__(self, size):
        super().__init__()


class Open(Tanh):
    """Takes any number of arguments."""

    def __init__(self, *sizes):
        super().__init__()


class Fixed(Scale):
    """An initializer without a default."""

    def __init__(self, weight_init):
        super().__init__()
        self.weight_init = weight_init


class Lying(Scale):
    """What it learns does not depend on its arguments."""

    width = 3

    def init_params(self, input_shape, rng):
        return {"scale": np.ones(self.width)}


@pytest.fixture(autouse=True)
def registered():
    """As a decorator of each class would; but a file that is only imported registers nothing."""
    for kind in (Scale, Wrapped, Cube, Forgetful, Open, Fixed, Lying):
        xpnn.register(f"tests.{kind.__name__}")(kind)


def changed_inside():
    block = TransformerBlock(4, 2, dropout=0.1)
    block.layers[0].body.layers[2].rate = 0.2
    return block


def tied_to_the_inside():
    block = TransformerBlock(4, 2, hidden=6)
    return Sequential([block, Dense(6), TiedDense(4, block.layers[1].body.layers[1])])


def lying():
    layer = Lying()
    layer.width = 1
    return layer


def swapped():
    layer = Wrapped(Tanh)
    vars(layer)["layers"] = (GELU(), layer.layers[1])
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Nameless, r"layer '0.nameless' is a Nameless, .* @xpnn.register\('yourlib.Nameless'\)"),
        (lambda: Forgetful(1), r"does not keep the argument 'size'; store it as self.size"),
        (lambda: Open(1, 2), r"takes \*sizes, .* give it a method arguments"),
        (lambda: Scale(np.ones(3)), r"argument 'size' of layer '0.scale' is .* ndarray, which a"),
        (lambda: Scale(options=print), r"argument 'options' .* a builtin_function_or_method"),
        (lambda: Fixed(lambda shape, rng: 0), r"'weight_init' of layer '0.fixed', .* a default"),
        (lambda: Dense(4).regularize(Mine(1)), r"layer '0.dense' is regularized by Mine\(1.0\)"),
        (changed_inside, r"body.2.dropout' has rate=0.2, .*=0.1; a value that was changed inside"),
        (swapped, r"layers differ: 0.wrapped.0.gelu, 0.wrapped.0.tanh"),
        (lying, r"0.lying.scale has the shape \(1,\), .* is \(3,\); let the shapes"),
    ],
)
def test_what_cannot_be_saved_is_said(make, message, path):
    network = Network([make()], (3, 4))
    with pytest.raises(XpnnError, match=message):
        network.save(path)
    assert not path.exists()


class Mine(Penalty):
    """Not registered."""


def test_ties_to_what_a_file_cannot_name(path):
    network = Network([tied_to_the_inside()], (3, 4))
    with pytest.raises(XpnnError, match=r"'source' of layer .* which a file cannot name"):
        network.save(path)


def test_more_layers_than_a_file_holds(path, monkeypatch):
    deep = Tanh()
    for _ in range(30):
        deep = Sequential([deep])
    with pytest.raises(XpnnError, match="nested more than 50 deep"):
        Network([deep], (3,)).save(path)
    monkeypatch.setattr(making, "MAX_LAYERS", 100)
    Network([Tanh() for _ in range(100)], (3,)).save(path)
    with pytest.raises(XpnnError, match="more than 100 layers"):
        Network([Tanh() for _ in range(101)], (3,)).save(path)


def test_params_of_another_dtype(path):
    network = Network([Dense(2)], (3,))
    network.params = {name: value.astype("float16") for name, value in network.params.items()}
    with pytest.raises(XpnnError, match="of dtype float16 in a network of dtype float32"):
        network.save(path)


@pytest.mark.parametrize("name", ["Scale", "", ".", "lib.", 3])
def test_names_to_register_have_a_dot(name):
    with pytest.raises(ValueError, match=r"a name to register is like 'mylib\.Scale'"):
        xpnn.register(name)


def test_a_name_stands_for_one_class():
    with pytest.raises(ValueError, match=r"'tests\.Scale' already stands for Scale; choose"):
        xpnn.register("tests.Scale")(Wrapped)
    with pytest.raises(TypeError, match="decorates a class, got"):
        xpnn.register("tests.function")(lambda: 1)
    assert xpnn.register("tests.Scale")(Scale) is Scale
