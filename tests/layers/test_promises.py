"""Layers that do not do what they say are named, where a step is made, evaluated or checked."""

import numpy as np
import pytest

from tests.layers.table import LAYERS, Ids, draw
from xpnn import SGD, Dense, Layer, Network, Parallel, Residual, Sequential, Softmax, Trainer
from xpnn.errors import GradientError, ShapeError, XpnnError
from xpnn.layers.promises import promises_watched
from xpnn.losses import mean_squared_error
from xpnn.testing import check_gradients

pytestmark = pytest.mark.fault("layer or loss that breaks its promise")


class Scale(Layer):
    """``S = g Z``, which is right; what is below does one thing otherwise."""

    def init_params(self, input_shape, rng):
        return {"g": np.full(input_shape, 2.0)}

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        return Z * self.params["g"]

    def backward(self, delta):
        self.grads["g"] = self.xp.sum(delta * self.cache["Z"], axis=0)
        return delta * self.params["g"]


class Halves(Scale):
    """Says nothing of its output shape."""

    def forward(self, Z, training=False):
        return super().forward(Z)[:, ::2]


class Flattens(Scale):
    """Takes the batch for a part of the sample."""

    def forward(self, Z, training=False):
        return self.xp.reshape(super().forward(Z), (-1,))


class ForgetsToReturnOutputs(Scale):
    def forward(self, Z, training=False):
        super().forward(Z)


class ForgetsGradient(Scale):
    def backward(self, delta):
        return delta * self.params["g"]


class MisspeltGradient(Scale):
    def backward(self, delta):
        back = super().backward(delta)
        self.grads["G"] = self.grads.pop("g")
        return back


class UnsummedGradient(Scale):
    def backward(self, delta):
        back = super().backward(delta)
        self.grads["g"] = delta * self.cache["Z"]
        return back


class NoGradient(Scale):
    def backward(self, delta):
        back = super().backward(delta)
        self.grads["g"] = None
        return back


class ForgetsToReturnDelta(Scale):
    def backward(self, delta):
        super().backward(delta)


class SummedDelta(Scale):
    def backward(self, delta):
        return self.xp.sum(super().backward(delta), axis=0)


class LateState(Scale):
    def forward(self, Z, training=False):
        self.state["seen"] = 1
        return super().forward(Z)


class LateParams(Scale):
    def forward(self, Z, training=False):
        self.params["h"] = self.params["g"]
        return super().forward(Z)


class Deaf(Sequential):
    """Does not call the backward of what is inside."""

    def backward(self, delta):
        return delta


BREAKS = [
    (
        Halves,
        ShapeError,
        r"output_shape of layer {} .* says \(4,\) for inputs of shape \(4,\), but",
    ),
    (Flattens, ShapeError, r"output_shape of layer {} .* makes \(24,\) of \(6, 4\)"),
    (ForgetsToReturnOutputs, XpnnError, r"forward of layer {} .* returned None; return the array"),
    (ForgetsGradient, XpnnError, r"no gradient for 'g' of layer {} .*let its backward write"),
    (MisspeltGradient, XpnnError, r"backward of layer {} .* wrote grads\['G'\].*called 'g'"),
    (UnsummedGradient, ShapeError, r"layer {} .* grads\['g'\] of shape \(6, 4\).*has \(4,\)"),
    (NoGradient, ShapeError, r"layer {} .* grads\['g'\] of shape \(\)"),
    (
        ForgetsToReturnDelta,
        XpnnError,
        r"backward of layer {} .* returned None, so layer .*0\.dense",
    ),
    (SummedDelta, ShapeError, r"backward of layer {} .* array of shape \(4,\), but its inputs"),
    (LateState, XpnnError, r"layer {} .* has added seen to its state.*let init_state return"),
    (LateParams, XpnnError, r"layer {} .* has added h to its params.*let init_params return"),
]
INSIDE = {
    "at the top": (lambda layer: layer, "1.{0}"),
    "in a Sequential": (lambda layer: Sequential([layer]), "1.sequential.0.{0}"),
    "in a Residual": (lambda layer: Residual([layer]), "1.residual.body.0.{0}"),
    "in a Parallel": (lambda layer: Parallel([layer, Dense(2)]), "1.parallel.0.{0}"),
}
each_break = pytest.mark.parametrize(("kind", "error", "words"), BREAKS)


def trainer_of(layer, backend="numpy", **options):
    network = Network([Dense(4), layer, Dense(2)], (3,), backend)
    return Trainer(network, mean_squared_error, SGD(0.1), **options)


def batch(network):
    x = network.backend.asarray(np.ones((6, 3), np.float32))
    return x, network.backend.asarray(np.zeros((6, 2), np.float32))


@each_break
def test_the_first_step_names_the_layer(backend, kind, error, words):
    trainer = trainer_of(kind(), backend)
    before = trainer.network.numpy_arrays()
    with pytest.raises(error, match=words.format(f"1.{kind.__name__.lower()}")):
        trainer.step(*batch(trainer.network))
    assert vars(trainer.network.layers[1]).keys() == vars(kind()).keys()  # no method is left there
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.host_only
@pytest.mark.parametrize("where", INSIDE)
@pytest.mark.parametrize(
    "options", [{"compile": True}, {"accumulate": 2}, {"precision": "float16"}]
)
@each_break
def test_so_it_does_inside_of_containers_and_however_a_step_is_taken(
    kind, error, words, where, options
):
    wrap, name = INSIDE[where]
    trainer = trainer_of(wrap(kind()), **options)
    words = words.format(name.format(kind.__name__.lower()))
    words = words.replace(r"\(24,\)", r"\(\d+,\)").replace(r"\(6, 4\)", r"\(\d, 4\)")
    for _ in range(2):  # a step that was refused is refused again
        with pytest.raises(error, match=words):
            trainer.step(*batch(trainer.network))


@pytest.mark.host_only
def test_a_container_that_calls_no_backward_is_found():
    trainer = trainer_of(Deaf([Dense(4)]))
    with pytest.raises(
        XpnnError,
        match=r"nothing came back to layer 1\.deaf\.0\.dense .*does not call its backward",
    ):
        trainer.step(*batch(trainer.network))


class Holds(Layer):
    """A container of a user's, whose layers are in a list of its own."""

    def __init__(self, *inside):
        super().__init__()
        self.inside = list(inside)

    def children(self):
        return {str(k): layer for k, layer in enumerate(self.inside)}

    def build(self, input_shape, backend, **options):
        shape = super().build(input_shape, backend, **options)
        for layer in self.inside:
            layer.build(input_shape, backend)
        return shape

    def forward(self, Z, training=False):
        for layer in self.inside:
            Z = layer.forward(Z, training)
        return Z

    def backward(self, delta):
        for layer in reversed(self.inside):
            delta = layer.backward(delta)
        return delta


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda inside: inside.pop(), "taken out"),
        (lambda inside: inside.append(Dense(4)), r"put in as 1\.holds\.2"),
        (lambda inside: inside.__setitem__(1, Dense(4)), r"put in as 1\.holds\.1"),
    ],
)
def test_layers_of_a_user_s_container_stay_what_they_are(change, words):
    layer = Holds(Dense(4), Dense(4))
    trainer = trainer_of(layer)
    x, y = batch(trainer.network)
    trainer.fit(x, y, progress=False)
    change(layer.inside)
    for run in (trainer.fit, trainer.evaluate):
        with pytest.raises(XpnnError, match=rf"layers were {words} behind the network's back"):
            run(x, y, **({"progress": False} if run == trainer.fit else {}))


@pytest.mark.host_only
def test_a_frozen_layer_need_not_write_gradients():
    layer = ForgetsGradient()
    layer.trainable = False
    trainer = trainer_of(layer)
    trainer.step(*batch(trainer.network))


def test_evaluation_looks_at_shapes_too(backend):
    trainer = trainer_of(Halves(), backend)
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"output_shape of layer 1\.halves"):
            trainer.evaluate(*batch(trainer.network))


@pytest.mark.host_only
@pytest.mark.parametrize("kind", [Halves, Flattens])
def test_check_gradients_looks_at_shapes_too(kind):
    with pytest.raises(ShapeError, match="output_shape of"):
        check_gradients(kind(), (4,))
    with pytest.raises(ShapeError, match="output_shape of"):
        check_gradients(Sequential([kind()]), (4,))


@pytest.mark.host_only
def test_check_gradients_names_gradients_of_no_parameter():
    with pytest.raises(GradientError, match="grads has 'G', and there is no such parameter"):
        check_gradients(MisspeltGradient(), (4,))


@pytest.mark.host_only
def test_it_looks_once_for_each_shape_of_a_batch():
    calls = []

    class Counts(Scale):
        def output_shape(self, input_shape):
            calls.append(input_shape)
            return input_shape

    trainer = trainer_of(Counts())
    x, y = batch(trainer.network)
    trainer.step(x, y)
    calls.clear()
    for _ in range(3):
        trainer.step(x, y)
    assert calls == []
    trainer.step(x[:2], y[:2])
    assert len(calls) > 0


@pytest.mark.host_only
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_layers_of_xpnn_keep_their_promises(make, shape):
    network = Network([make()], shape)
    x = network.backend.asarray(draw(shape))
    for trainable in (network.trainable(), set()):
        with promises_watched(network.root, trainable):
            output = network.forward(x, training=True)
            network.backward(output, to_input=not isinstance(shape, Ids))
    assert not {"forward", "backward"} & {key for _, one in network.walk() for key in vars(one)}


def test_shares_of_a_sample_that_is_one_number_are_refused():
    """They would be shares of the batch."""
    with pytest.raises(ShapeError, match=r"samples of shape \(\) have none; put a Dense in front"):
        Network([Softmax()], ())
