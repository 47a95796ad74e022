"""Graphs: how nodes are joined, what is refused, and gradients against PyTorch's autograd."""

import copy
import pickle

import numpy as np
import pytest

from xpnn import (
    LSTM,
    Add,
    Average,
    BatchNorm,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    Graph,
    Identity,
    Input,
    Layer,
    LearnedPositions,
    Masked,
    Multiply,
    Network,
    Parallel,
    Permute,
    Recompute,
    Reshape,
    Residual,
    Sequential,
    Softmax,
    Subtract,
    Tanh,
    load,
)
from xpnn.errors import DataError, OutOfMemory, ShapeError, XpnnError
from xpnn.testing import check_gradients


@pytest.mark.host_only
def test_an_average_goes_by_no_sum_in_half_precision():
    one, other = Input((1,)), Input((1,))
    network = Network(inputs=[one, other], outputs=Average()(one, other), dtype="float16")
    large = np.full((2, 1), 60_000, np.float16)
    np.testing.assert_array_equal(network.forward((large, large)), large)


def two_ways(**outputs):
    """Numbers and ids that come together, and part again."""
    numbers = Input((3,), name="numbers")
    ids = Input((2,), takes="integers", name="ids")
    words = Flatten()(Embedding(7, 2)(ids))
    hidden = Tanh()(Dense(4)(Concatenate()(numbers, words)))
    ends = [Dense(1)(hidden), Softmax()(Dense(3)(Add()(hidden, Dense(4)(hidden))))]
    if outputs:
        ends = dict(zip(outputs, ends, strict=True))
    return Network(inputs=[numbers, ids], outputs=ends)


def batch(rows=5):
    rng = np.random.default_rng(3)
    numbers = rng.standard_normal((rows, 3)).astype(np.float32)
    return numbers, rng.integers(0, 7, (rows, 2))


# Running ------------------------------------------------------------------------------------------


def test_arrays_come_and_go_as_tuples_or_by_name():
    network, named = two_ways(), two_ways(price=1, kind=1)
    numbers, ids = batch()
    price, kind = network.predict((numbers, ids), batch_size=2)
    assert price.shape == (5, 1)
    assert kind.shape == (5, 3)
    by_name = named.predict({"ids": ids, "numbers": numbers})
    assert list(by_name) == ["price", "kind"]
    np.testing.assert_allclose(by_name["kind"], kind, rtol=1e-6)
    assert network.output_names == ("output_0", "output_1")
    assert network.output_shape == ((1,), (3,))
    assert network.inputs == (((3,), "floats", "numbers"), ((2,), "integers", "ids"))


def test_gradients_of_several_inputs_and_outputs():
    assert not check_gradients(two_ways(), x=batch(3)).wrong


@pytest.mark.parametrize(
    ("joint", "shapes"),
    [
        (Add(), ((3,), (3,), (1,))),
        (Subtract(), ((2, 3), (2, 1))),
        (Multiply(), ((2, 3), (1, 3), (2, 1))),
        (Average(), ((3,), (3,), (3,))),
        (Concatenate(), ((2, 1), (2, 3))),
        (Concatenate(0), ((2, 3), (1, 3))),
        (Dot(), ((4,), (4,))),
        (Dot(cosine=True), ((2, 4), (3, 4))),
    ],
)
def test_gradients_of_joints_of_different_inputs(joint, shapes):
    assert not check_gradients(joint, shapes).wrong


def test_a_cosine_of_nothing_is_nothing():
    x, y = Input((2,)), Input((2,))
    network = Network(inputs=[x, y], outputs=Dot(cosine=True)(x, y))
    zeros, ones = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert network.predict((zeros, ones)).tolist() == [[0.0]]
    assert network.predict((ones, 3 * ones))[0, 0] == pytest.approx(1.0)
    delta = network.forward((zeros, zeros), training=True)
    assert all(np.all(np.isfinite(back)) for back in network.backward(delta + 1))


def test_short_vectors_are_divided_by_a_number():
    """Below 1e-7 the length no longer changes with the vector: dS/dx = y / |y| / 1e-7."""
    x, y = Input((2,)), Input((2,))
    network = Network(inputs=[x, y], outputs=Dot(cosine=True)(x, y), dtype="float64")
    short, other = np.array([[3e-8, 0.0]]), np.array([[3.0, 4.0]])
    out = network.forward((short, other), training=True)
    assert out[0, 0] == pytest.approx(0.3 * 0.6)
    np.testing.assert_allclose(network.backward(np.ones((1, 1)))[0], [[0.6e7, 0.8e7]])


def test_deltas_of_a_value_are_added_up_once():
    """y = x + x x: dy/dx = 1 + 2 x."""
    x = Input((2,))
    network = Network(inputs=x, outputs=Add()(x, Multiply()(x, x)))
    network.forward([[1.0, 3.0]], training=True)
    assert network.backward(np.ones((1, 2), np.float32)).tolist() == [[3.0, 7.0]]


def test_a_shared_layer_learns_from_all_of_its_calls():
    """By hand: y = w (w x), so dy/dw = 2 w x."""
    x, dense = Input((1,)), Dense(1, use_bias=False)
    network = Network(inputs=x, outputs=dense(dense(x)))
    assert list(network.params) == ["0.dense.weight"]
    network.load({"0.dense.weight": [[3.0]]})
    assert network.forward([[2.0]], training=True).tolist() == [[18.0]]
    for _ in range(2):  # a second pass begins anew
        assert network.backward(np.ones((1, 1), np.float32)).tolist() == [[9.0]]
        assert network.grads["0.dense.weight"].tolist() == [[12.0]]
        network.forward([[2.0]], training=True)


def test_shared_dropout_draws_anew_and_goes_back_by_its_own_draw():
    x, drop = Input((50,)), Dropout(0.5)
    network = Network(inputs=x, outputs=[drop(x), drop(x)])
    ones = np.ones((1, 50), np.float32)
    first, second = network.forward(ones, training=True)
    assert not np.array_equal(first, second)
    assert np.array_equal(network.backward((ones, 0 * ones)), first)
    assert np.array_equal(network.backward((0 * ones, ones)), second)


def test_an_output_without_a_delta():
    network, ones = two_ways(), np.ones((5, 1), np.float32)
    for other in (None, np.ones((5, 3), np.float32), None):  # nothing stays from a batch before
        network.forward(batch(), training=True)
        network.backward((ones, other))
        assert ("6.dense.weight" in network.grads) == (other is not None)
        assert "3.dense.weight" in network.grads


def test_no_more_deltas_than_somebody_reads():
    """What only data stand in front of is not gone back through, nor are its inputs."""
    seen = []

    class Watched(Identity):
        def backward(self, delta):
            seen.append(self)
            return super().backward(delta)

    x, y = Input((2,)), Input((2,))
    front, behind = Watched(), Watched()
    outputs = behind(Dense(2)(Add()(front(x), y)))
    network = Network(inputs=[x, y], outputs=outputs)
    delta = network.forward((np.ones((1, 2)), np.ones((1, 2))), training=True)
    assert network.backward(delta, to_input=False) == (None, None)
    assert seen == [behind]
    assert all(back is not None for back in network.backward(delta))
    assert front in seen


def test_values_are_dropped_when_they_are_read():
    """A chain of activations keeps what their caches do, and not the inputs of each."""
    x = Input((1000,))
    network = Network(inputs=x, outputs=Tanh()(Tanh()(Tanh()(x))))
    graph = network.root
    assert [step.read_last for step in graph.steps] == [(0,), (1,), (2,)]


# What is refused ----------------------------------------------------------------------------------


def test_shapes_are_refused_in_the_line_that_wrote_them():
    a, b = Input((3,), name="a"), Input((4,), name="b")
    with pytest.raises(ShapeError, match=r"Add\(\), called on Input\(\(3,\), name='a'\), Input"):
        Add()(a, b)
    with pytest.raises(ShapeError, match="takes one input, but was called on 2; join them first"):
        Dense(2)(a, b)
    assert Dense(2)(Concatenate()(a, b)).shape == (2,)  # as it says
    with pytest.raises(ShapeError, match="takes two inputs or more, but was called on 1"):
        Add()(a)
    with pytest.raises(ShapeError, match="takes 2 inputs, but was called on 3"):
        Subtract()(a, a, a)
    with pytest.raises(ShapeError, match="equal but for axis -1"):
        Concatenate()(Input((2, 3)), Input((3, 3)))
    with pytest.raises(ShapeError, match="which has 1"):
        Concatenate(1)(a, a)
    with pytest.raises(ShapeError, match="two inputs of shape"):
        Dot()(a, b)


def test_integers_and_floats():
    ids, numbers = Input((2,), takes="integers", name="ids"), Input((2,), name="numbers")
    with pytest.raises(ShapeError, match="which holds integers; put an Embedding between"):
        Dense(2)(ids)
    assert Dense(2)(Embedding(3, 2)(ids)).shape == (2, 2)
    with pytest.raises(ShapeError, match="which holds floats; write takes='integers'"):
        Embedding(3, 2)(numbers)
    with pytest.raises(ValueError, match="an Input takes 'floats' or 'integers', got takes='int'"):
        Input((2,), takes="int")


def test_nodes_that_are_not_connected():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    both = Add()(a, b)
    with pytest.raises(ValueError, match=r"the outputs need Input\(\(3,\), name='b'\), which is"):
        Network(inputs=a, outputs=both)
    with pytest.raises(ValueError, match=r"name='b'\) is not connected to any output"):
        Network(inputs=[a, b], outputs=Dense(1)(a))
    with pytest.raises(ValueError, match=r"Input\(\(3,\), name='a'\) is named twice"):
        Network(inputs=[a, a], outputs=Dense(1)(a))
    with pytest.raises(ValueError, match=r"<Add\(\) at node \d+, \(3,\)> is named twice"):
        Network(inputs=[a, b], outputs=[both, both])
    with pytest.raises(TypeError, match="inputs are nodes of Input, got <Add"):
        Network(inputs=both, outputs=Dense(1)(both))
    with pytest.raises(ValueError, match="'x' is named twice among the inputs"):
        Network(inputs=[Input((1,), name="x"), Input((1,), name="x")], outputs=both)
    with pytest.raises(ValueError, match="a graph has outputs, got none"):
        Network(inputs=[a, b], outputs=[])


def test_what_is_no_node():
    with pytest.raises(TypeError, match="was called on ndarray, but a layer is called on nodes"):
        Dense(2)(np.ones((1, 3)))
    network = Network([dense := Dense(2)], (3,))
    ones = np.ones((1, 3), np.float32)
    assert np.array_equal(network.forward(ones), dense.forward(ones))  # as it says
    with pytest.raises(TypeError, match="outputs are nodes"):
        Network(inputs=Input((3,)), outputs=Dense(2))
    with pytest.raises(TypeError, match="is one node, and no list of nodes"):
        _, _ = Dense(2)(Input((3,)))
    with pytest.raises(TypeError, match="a list of layers and an input_shape, or of inputs and"):
        Network(inputs=Input((3,)))
    with pytest.raises(TypeError, match="either layers, or inputs and outputs"):
        Network([Dense(2)], (3,), inputs=Input((3,)))


def test_a_layer_has_one_network():
    x, dense = Input((3,)), Dense(2)
    node = dense(x)
    Network(inputs=x, outputs=node)
    with pytest.raises(XpnnError, match="already part of a network; a layer has one place"):
        Network(inputs=x, outputs=Tanh()(node))
    again = Dense(2)
    twice = Sequential([again])(Dense(3)(again(x)))
    with pytest.raises(XpnnError, match="is already part of this network"):
        Network(inputs=x, outputs=twice)


def test_a_shared_layer_has_one_kind_of_inputs():
    dense = Dense(3)
    x = Input((3,))
    with pytest.raises(
        ShapeError, match=r"0.dense, call 2: wanted inputs of Dense\(3\) like those"
    ):
        Network(inputs=x, outputs=dense(Concatenate()(dense(x), x)))
    words = Embedding(5, 3)
    short, long = Input((2,), takes="integers"), Input((4,), takes="integers")
    outputs = [words(short), words(long)]  # of other lengths it may be
    assert Network(inputs=[short, long], outputs=outputs).output_shape == ((2, 3), (4, 3))


@pytest.mark.parametrize(
    ("make", "inside"),
    [
        (lambda: Sequential([Flatten(), Dense(3)]), r"Dense\(3\)"),
        (lambda: Recompute([Permute((2, 1)), Dense(3)]), r"Dense\(3\)"),
        (LearnedPositions, r"LearnedPositions\(\)"),
        (lambda: of_one(Flatten(), Dense(3)), r"Dense\(3\)"),
    ],
)
def test_weights_inside_that_fit_only_the_first_call(make, inside):
    shared, short, long = make(), Input((4, 2)), Input((6, 2))
    with pytest.raises(ShapeError, match=rf"call 2: wanted inputs of {inside} like those of its"):
        Network(inputs=[short, long], outputs=[shared(short), shared(long)])


def of_one(*layers):
    """The layers as a graph."""
    x = node = Input((4, 2))
    for layer in layers:
        node = layer(node)
    return Graph.of(x, node)


@pytest.mark.parametrize("make", [Tanh, Flatten, Identity, lambda: Reshape((-1, 1))])
def test_layers_without_weights_are_called_on_anything(make):
    """Each call goes back by its own shapes."""
    shared, wide, narrow = make(), Input((4, 2)), Input((2, 3))
    network = Network(inputs=[wide, narrow], outputs=[shared(wide), shared(narrow)])
    outputs = network.forward((np.ones((5, 4, 2)), np.ones((5, 2, 3))), training=True)
    assert [back.shape for back in network.backward(outputs)] == [(5, 4, 2), (5, 2, 3)]


def test_a_mask_fits_all_calls_of_a_layer():
    x, lstm = Input((4, 2)), LSTM(2, return_sequences=True)
    twice = lstm(Concatenate(0)(lstm(x), x))
    with pytest.raises(ShapeError, match=r"the mask is that of 4 steps, but LSTM.* reads 8"):
        Network([Masked([Graph.of(x, twice)])], (4, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda joint: [joint],
        lambda joint: [Residual([Dense(3)], shortcut=joint)],
        lambda joint: [Parallel([Dense(3), joint])],
        lambda joint: [Recompute([Masked([joint])])],
    ],
)
def test_a_joint_in_a_chain(make):
    with pytest.raises(ShapeError, match="takes two inputs or more, but was called on 1"):
        Network(make(Add()), (3,))


def two_ends():
    x = Input((3,))
    return Graph.of(x, [Dense(3)(x), Tanh()(x)])


def test_several_outputs_in_a_chain():
    with pytest.raises(ShapeError, match="takes one input, but was called on 2; join them first"):
        Network([two_ends(), Dense(2)], (3,))
    assert Network([two_ends(), Add()], (3,)).output_shape == (3,)  # as it says
    with pytest.raises(ShapeError, match=r"2 outputs where one is wanted; call it on a node"):
        Network([Residual([two_ends()])], (3,))
    with pytest.raises(
        ShapeError, match=r"has 2; with x = Input\(\(3,\)\) write Network\(inputs=x"
    ):
        Network([two_ends()], (3,))
    x = Input((3,))
    assert Network(inputs=x, outputs=two_ends()(x)).output_shape == ((3,), (3,))  # as it says


def test_inputs_that_do_not_come():
    network, (numbers, ids) = two_ways(), batch()
    with pytest.raises(DataError, match="by the names numbers, ids, got numbers"):
        network.predict({"numbers": numbers})
    with pytest.raises(DataError, match="a tuple of 2, or a dict, for numbers, ids, got a ndarray"):
        network.predict(numbers)
    with pytest.raises(ShapeError, match="input 'ids': "):
        network.predict((numbers, ids[:, :1]))
    with pytest.raises(DataError, match="input 'ids': "):
        network.predict((numbers, numbers[:, :2]))
    with pytest.raises(DataError, match="wanted delta to be a tuple of 2"):
        network.backward(numbers)
    for call in (network.predict, network.forward):
        with pytest.raises(ShapeError, match=r"but x\['numbers'\] has 5, x\['ids'\] has 4; align"):
            call((numbers, ids[:4]))


def test_inputs_some_of_which_are_mapped_files(tmp_path):
    network, (numbers, ids) = two_ways(), batch()
    np.save(tmp_path / "numbers.npy", numbers)
    mapped = np.load(tmp_path / "numbers.npy", mmap_mode="r")
    found = network.predict((mapped, ids.tolist()), batch_size=2)
    for one, wanted in zip(found, network.predict((numbers, ids)), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-6)
    with pytest.raises(ShapeError, match=r"has 5, .* has 4; align the data"):
        network.predict((mapped, ids[:4].tolist()))


class Halves(Layer):
    """A layer of two outputs, which only a graph may be."""

    def output_shape(self, input_shape):
        return (input_shape, input_shape)

    def forward(self, Z, training=False):
        return Z / 2, Z / 2

    def backward(self, delta):
        first, second = delta
        return (first + second) / 2


def test_a_layer_of_ones_own_may_have_several_outputs():
    x = Input((2,))
    first, second = Halves()(x)
    network = Network(inputs=x, outputs=Add()(first, second))
    assert network.predict([[2.0, 4.0]]).tolist() == [[2.0, 4.0]]
    assert not check_gradients(network).wrong


def test_outputs_of_such_a_layer_that_nobody_reads():
    x = Input((2,))
    network = Network(inputs=x, outputs=Halves()(x)[1])
    network.forward([[2.0, 4.0]], training=True)
    assert network.backward(np.ones((1, 2), np.float32)).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("calls", "outputs", "said"),
    [
        ([(0, (1,))], 1, "on values"),
        ([(0, (0,))], 2, "the outputs are values"),
        ([(1, (0,))], 1, "wanted calls of layers 0 to 0"),
        ([(0, (0, 0))], 1, "takes one input"),
        ([(0, ())], 1, "takes one input"),
        ([(0, (1,))], 1, "of which some are not there"),
        ([(0, (0.0,))], 1, "of which some are not there"),
        ([(0.0, (0,))], 1, "wanted calls of layers 0 to 0"),
        ([(0, (0,))], True, "the outputs are values"),
        ([(0, (0,))], (), "a graph has outputs, got none"),
        ([(0, (0,))], {1: 1}, "wanted a text for a name, got 1"),
    ],
)
def test_numbers_that_make_no_graph(calls, outputs, said):
    with pytest.raises((ValueError, ShapeError), match=said):
        Graph([Tanh()], [((2,), "floats", "x")], calls, outputs)


def test_inputs_that_are_not_told_apart():
    place = ((2,), "floats", "x")
    for inputs, said in [
        ([], "a graph has inputs, got none"),
        ([place, place], "'x' is named twice"),
        ([((2,), "floats", 5)], "wanted a text for a name"),
        ([((2,), "all", "x")], r"takes \('floats',\), and is called on \('all',\)"),
    ]:
        with pytest.raises((ValueError, ShapeError), match=said):
            Graph([Tanh()], inputs, [(0, (0,))], len(inputs))


def twice(layer):
    x = Input((2,))
    return Graph.of(x, layer(layer(x)))


def test_graphs_of_graphs_have_an_end():
    graph = Tanh()
    for _ in range(15):
        graph = twice(graph)
    with pytest.raises(ValueError, match=r"a graph is at most 100,000 calls, .* got 131,070"):
        twice(graph)
    doubled = [(0, (k, k)) for k in range(100)]
    with pytest.raises(OutOfMemory, match="make the layer or its inputs smaller"):
        Graph([Concatenate()], [((2,), "floats", "x")], doubled, 100)


def test_a_deep_graph(tmp_path):
    """Nothing goes down it by recursion, and no call costs more than the one before."""
    x = node = Input((2,))
    shared = Dense(2)
    for k in range(1200):
        node = shared(node) if k % 2 else Tanh()(node)
    network = Network(inputs=x, outputs=node)
    ones = np.ones((1, 2), np.float32)
    delta = network.backward(network.forward(ones, training=True))
    network.save(tmp_path / "deep.safetensors")
    for twin in (
        load(tmp_path / "deep.safetensors"),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        again = twin.backward(twin.forward(ones, training=True))
        assert np.array_equal(again, delta)


# Files and copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict"])
def test_a_graph_in_a_file(backend, tmp_path):
    network = two_ways(price=1, kind=1)
    network.save(tmp_path / "graph.safetensors")
    twin = load(tmp_path / "graph.safetensors", backend)
    assert twin.inputs == network.inputs
    assert twin.output_names == ("price", "kind")
    found, wanted = twin.predict(batch()), network.predict(batch())
    for name, values in wanted.items():
        np.testing.assert_allclose(twin.backend.to_numpy(found[name]), values, rtol=1e-5)


def test_shared_layers_are_shared_in_a_file_and_in_a_copy(tmp_path):
    x, dense, norm = Input((3,)), Dense(3), BatchNorm()
    network = Network(inputs=x, outputs=norm(dense(norm(dense(x)))))
    network.save(tmp_path / "shared.safetensors")
    for twin in (load(tmp_path / "shared.safetensors"), network.to("numpy")):
        assert list(twin.params) == list(network.params)
        assert len(twin.layers) == 2
        rows = batch()[0]
        assert np.array_equal(twin.predict(rows), network.predict(rows))
