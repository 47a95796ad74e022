"""Which of PyTorch's arrays goes where, and what does not fit."""

import numpy as np
import pytest

from xpnn.errors import FileError, ShapeError, XpnnError
from xpnn.layers import (
    GLU,
    LSTM,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    GroupNorm,
    Identity,
    Parallel,
    Permute,
    Reshape,
    Residual,
    Sequential,
    Tanh,
    TiedDense,
    WeightNorm,
)
from xpnn.network import Network
from xpnn.saving import Tensor, TensorFile, load_torch_weights, save_torch_weights, write_tensors
from xpnn.saving.torch.feature_order import feature_orders


def linear(features, units, seed=0):
    rng = np.random.default_rng(seed)
    return {"weight": rng.standard_normal((units, features)), "bias": rng.standard_normal(units)}


def prefixed(**modules):
    return {f"{name}.{k}": v for name, module in modules.items() for k, v in module.items()}


def two():
    return Network([Dense(4), Tanh(), Dense(3)], (2,))


def written(path, arrays):
    write_tensors(path, {k: Tensor(v.dtype.name, v) for k, v in arrays.items()}, {})
    return path


def test_eleven_layers_in_a_file_keep_their_order(tmp_path):
    network = Network([Dense(2) for _ in range(11)], (2,))
    arrays = {f"{k}.{n}": v for k in range(11) for n, v in linear(2, 2, k).items()}
    load_torch_weights(network, written(tmp_path / "w", arrays))
    for k in range(11):
        np.testing.assert_array_equal(
            network.params[f"{k}.dense.weight"], arrays[f"{k}.weight"].T.astype("float32")
        )


def test_names_say_which_is_which(tmp_path):
    network = two()
    arrays = prefixed(**{"z": linear(2, 4), "a.head": linear(4, 3)})
    path = written(tmp_path / "w", arrays)
    with pytest.raises(ShapeError, match=r"calls a module 'a.head', .* ours are 0.dense, 2.dense"):
        load_torch_weights(network, path)
    load_torch_weights(network, path, {"z": "0", "a.head": "2.dense"})
    np.testing.assert_allclose(network.params["2.dense.weight"], arrays["a.head.weight"].T)
    load_torch_weights(network, {**arrays, "other.weight": np.ones(3)}, {"z": "0"}, partial=True)


def test_a_module_of_other_shapes_is_left_out_where_that_is_asked_for():
    """All of it: its bias would fit."""
    network = Network([Dense(4), Tanh(), Dense(3)], (2,), seed=2)
    network_arrays = network.numpy_arrays()
    arrays = prefixed(a=linear(2, 4), b=linear(9, 3), c=linear(3, 3))
    found = load_torch_weights(network, arrays, partial=True)
    assert str(found) == (
        "taken: 0.dense.weight, 0.dense.bias\n"
        "unknown: c.weight, c.bias\n"
        "of another shape: b.weight (3, 9) for (3, 4)"
    )
    np.testing.assert_allclose(network.params["0.dense.bias"], arrays["a.bias"], rtol=1e-6)
    for name in ("2.dense.weight", "2.dense.bias"):
        np.testing.assert_array_equal(network.params[name], network_arrays[name])
    found = load_torch_weights(network, arrays, {"a": "0"}, partial=True)
    assert found.missing == ("2.dense.weight", "2.dense.bias")
    with pytest.raises(ShapeError, match=r"as nothing fits this network:\nmissing: 0\.dense\.w"):
        load_torch_weights(network, arrays, {"b": "2.dense"}, partial=True)


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        (prefixed(a=linear(2, 4)), None, "layer '2.dense' wants ....weight.*next in order is noth"),
        (prefixed(a=linear(2, 4), b=linear(3, 4)), None, r"'b.weight' has the shape .*\(3, 4\);"),
        (prefixed(a=linear(2, 4), b={"bias": np.ones(3)}), None, "there is no 'b.weight', which l"),
        (
            prefixed(a=linear(2, 4), b=linear(4, 3), c=linear(3, 3)),
            None,
            "no layer takes c.weight, c.bias; say which",
        ),
        (prefixed(a=linear(2, 4)), {"a": "0"}, "nothing goes into 2.dense; say which"),
        (prefixed(a=linear(2, 4)), {"a": "1"}, "sends 'a' to '1', but the layers with arrays are"),
        (prefixed(a={"scale": np.ones(4)}), None, "layer '0.dense' wants .* next in order is a.sc"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(arrays, names, message):
    network = two()
    before = network.numpy_arrays()
    with pytest.raises(ShapeError, match=message):
        load_torch_weights(network, arrays, names)
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_tied_weights_that_differ_are_refused():
    ids = Embedding(5, 3)
    network = Network([ids, TiedDense(5, ids)], (4,))
    arrays = {"0.weight": np.ones((5, 3)), "1.weight": np.zeros((5, 3)), "1.bias": np.ones(5)}
    with pytest.raises(ShapeError, match=r"1.tieddense.weight is tied to 0.embedding.weight, but"):
        load_torch_weights(network, arrays)
    load_torch_weights(network, {**arrays, "1.weight": np.ones((5, 3))})
    np.testing.assert_array_equal(network.params["0.embedding.weight"], 1)


def unfolded():
    return [Dense(8), Reshape((2, 2, 2)), Conv2D(1, 1)]


def folded_into_a_residual():
    return [Conv2D(2, 1), Flatten(), Residual([Dense(8)])]


def folded_into_groups():
    return [Conv2D(2, 1), Flatten(), GroupNorm(2)]


def folded_into_a_gate():
    return [Conv2D(2, 1), Flatten(), GLU(), Dense(1)]


def test_a_layer_whose_counterpart_is_not_normed_is_refused_or_left_out():
    network = Network([WeightNorm(LSTM(2)), Dense(1)], (3, 2))
    with pytest.raises(XpnnError, match=r"WeightNorm\(LSTM\(2\)\), has no counterpart in torch.nn"):
        load_torch_weights(network, {})
    before = network.numpy_arrays()
    arrays = {f"1.{name}": one for name, one in linear(2, 1).items()}
    load_torch_weights(network, arrays, {"1": "1.dense"}, partial=True)
    changed = {k for k, one in network.numpy_arrays().items() if not np.array_equal(one, before[k])}
    assert changed == {"1.dense.weight", "1.dense.bias"}


def turned():
    return [Conv2D(2, 1), Permute((2, 1, 3)), Flatten(), Dense(1)]


def folded_and_unfolded():
    return [Conv2D(2, 1), Flatten(), Reshape((4, 2)), Dense(1)]


def folded_side_by_side():
    return [Conv2D(2, 1), Parallel([Flatten(), Flatten()]), Dense(1)]


def summed_of_unlike_images():
    branches = [Sequential([Conv2D(2, 1), Flatten()]), Sequential([Conv2D(8, 2), Flatten()])]
    return [Parallel(branches, merge="sum"), Dense(1)]


def summed_with_unfolded():
    learned = Sequential([Flatten(), Dense(4), Reshape((2, 2, 1))])
    return [Parallel([learned, Conv2D(1, 1)], merge="sum"), Flatten(), Dense(1)]


@pytest.mark.parametrize(
    ("layers", "shape", "name"),
    [
        (summed_of_unlike_images, (2, 2, 1), "0.parallel"),
        (summed_with_unfolded, (2, 2, 1), "0.parallel"),
        (unfolded, (3,), "2.conv2d"),
        (folded_into_a_residual, (2, 2, 1), "2.residual"),
        (folded_into_groups, (2, 2, 1), "2.groupnorm"),
        (folded_into_a_gate, (2, 2, 1), "2.glu"),
        (turned, (2, 2, 1), "1.permute"),
        (folded_and_unfolded, (2, 2, 1), "2.reshape"),
        (folded_side_by_side, (2, 2, 1), "1.parallel"),
    ],
)
def test_an_order_that_cannot_be_told_is_said(layers, shape, name, tmp_path):
    with pytest.raises(XpnnError, match=rf"layer '{name}' .* order that PyTorch's file does not"):
        save_torch_weights(Network(layers(), shape), tmp_path / "w")


@pytest.mark.parametrize(
    "first",
    [
        lambda: Parallel([Identity(), Conv2D(2, 1)], merge="sum"),
        lambda: Parallel([Conv2D(2, 1), Identity()], merge="sum"),
        lambda: Parallel([Sequential([Conv2D(2, 1), Flatten()]) for _ in range(2)], merge="sum"),
    ],
)
def test_summed_images_are_counted_channels_first(first):
    network = Network([first(), Flatten(), Dense(1)], (2, 2, 2))
    (order,) = feature_orders(network.root).values()
    np.testing.assert_array_equal(order, [0, 2, 4, 6, 1, 3, 5, 7])


def test_layers_without_a_counterpart_are_named(tmp_path):
    class Scale(Tanh):
        def init_params(self, input_shape, rng):
            return {"scale": np.ones(input_shape)}

    network = Network([Dense(4), Scale()], (2,))
    with pytest.raises(XpnnError, match=r"layer '1.scale', Scale\(\), has no counterpart in torch"):
        save_torch_weights(network, tmp_path / "w")
    arrays = prefixed(a=linear(2, 4))
    load_torch_weights(network, arrays, partial=True)
    np.testing.assert_allclose(network.params["0.dense.bias"], arrays["a.bias"], rtol=1e-6)


def test_their_numbers_are_rounded_to_our_dtype(tmp_path):
    network = Network([Dense(3)], (2,), dtype="float16")
    arrays = {f"0.{key}": value for key, value in linear(2, 3).items()}
    load_torch_weights(network, written(tmp_path / "w", arrays))
    np.testing.assert_array_equal(
        network.params["0.dense.weight"], arrays["0.weight"].T.astype("float16")
    )
    save_torch_weights(network, tmp_path / "half")
    with TensorFile(tmp_path / "half") as file:
        assert {entry.dtype for entry in file.entries.values()} == {"float16"}
        assert file.metadata["format"] == "pt"


def test_a_file_of_pickles_is_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(FileError, match=r"is a zip archive, such as torch.save.*state_dict"):
        load_torch_weights(two(), tmp_path / "w.pt")


def test_like_gives_names_and_order(tmp_path):
    network, path = two(), tmp_path / "w"
    like = prefixed(body=linear(2, 4), **{"head.last": linear(4, 3)})
    save_torch_weights(network, path, like=like)
    with TensorFile(path) as file:
        assert {name: one.shape for name, one in file.entries.items()} == {
            name: one.shape for name, one in like.items()
        }
        np.testing.assert_array_equal(
            file.read("head.last.weight"), network.params["2.dense.weight"].T
        )


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            prefixed(a=linear(2, 4), b=linear(4, 5)),
            r"the shape \(5, 4\) for 'b.weight', and layer '2",
        ),
        (prefixed(a=linear(2, 4), b=linear(4, 3), c=linear(1, 1)), "no layer gives c.weight, c.bi"),
        (prefixed(a=linear(2, 4), b={"weight": np.ones((3, 4))}), "like has no 'b.bias', which la"),
    ],
)
def test_what_a_module_would_not_take_is_not_written(like, message, tmp_path):
    with pytest.raises(ShapeError, match=message):
        save_torch_weights(two(), tmp_path / "w", like=like)
    assert not (tmp_path / "w").exists()
