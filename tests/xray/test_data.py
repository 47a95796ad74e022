"""The plain data of a record hold its arrays, thinned where they are large, and what they are."""

import base64
import dataclasses
import json

import numpy as np
import pytest

from xpnn import Conv2D, ConvTranspose2D, Dense, Flatten, Network, Sigmoid, explain
from xpnn.xray.data import array_data

pytestmark = pytest.mark.host_only


def numbers(data):
    return np.frombuffer(base64.b64decode(data["data"]), "<f4").reshape(data["shown"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
def test_what_is_small_is_shown_whole(dtype):
    array = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
    data = array_data(array)
    assert (data["shape"], data["shown"], data["stride"]) == ([2, 3, 4], [2, 3, 4], [1, 1, 1])
    assert data["dtype"] == dtype
    np.testing.assert_array_equal(numbers(data), array.astype(np.float32))
    wide = array.astype(np.float64)
    wanted = {"min": wide.min(), "max": wide.max(), "mean": wide.mean(), "std": wide.std()}
    wanted |= {"norm": np.sqrt(np.sum(wide**2)), "zeros": np.mean(wide == 0), "nonfinite": 0}
    assert {key: data[key] for key in wanted} == pytest.approx(wanted)
    assert data["first_nonfinite"] is None


@pytest.mark.parametrize(
    ("shape", "samples", "shown", "stride"),
    [
        ((64, 64), 64, [64, 64], [1, 1]),
        ((65, 64), 65, [33, 64], [2, 1]),
        ((10_000,), None, [3334], [3]),
        ((20, 90, 130), 20, [1, 90, 130], [20, 1, 1]),
        ((90, 20, 130), 20, [90, 1, 130], [1, 20, 1]),  # time first
        ((32, 28, 28, 16), 32, [1, 28, 28, 16], [32, 1, 1, 1]),
        ((32, 28, 28, 4), 32, [5, 28, 28, 4], [7, 1, 1, 1]),
        ((2, 64, 64, 64), 2, [1, 32, 22, 22], [2, 2, 3, 3]),
        ((3, 3, 64, 128), None, [3, 3, 32, 43], [1, 1, 2, 3]),
    ],
)
def test_what_is_large_is_shown_at_even_strides(shape, samples, shown, stride):
    array = np.random.default_rng(0).standard_normal(shape)
    data = array_data(array, samples=samples)
    assert (data["shown"], data["stride"]) == (shown, stride)
    thinned = array[tuple(slice(None, None, step) for step in stride)]
    np.testing.assert_array_equal(numbers(data), thinned.astype(np.float32))
    assert data["max"] == array.max()  # of the whole


def test_what_is_not_finite_is_counted_and_found():
    array = np.asarray([[0.0, 1.0, 3.0], [np.nan, np.inf, -np.inf]])
    data = array_data(array)
    assert (data["nonfinite"], data["first_nonfinite"]) == (3, [1, 0])
    assert (data["min"], data["max"], data["zeros"]) == (0.0, 3.0, 1 / 6)
    np.testing.assert_array_equal(numbers(data), array.astype(np.float32))
    nothing = array_data(np.full((2,), np.nan))
    assert [nothing[key] for key in ("min", "max", "mean", "std", "norm")] == [None] * 5
    huge = array_data(np.asarray([1e300, -1e300]))  # whose square no float holds
    assert (huge["max"], huge["norm"]) == (1e300, None)
    assert array_data(np.zeros((0, 3)))["first_nonfinite"] is None


def test_a_record_is_json_and_has_all_of_its_arrays():
    network = Network([Conv2D(2, 3), Flatten(), Dense(2), Sigmoid()], (5, 5, 1))
    x = np.random.default_rng(1).standard_normal((3, 5, 5, 1))
    seen = explain(network, x, np.eye(2)[[0, 1, 0]], "mse", "adam")
    data = json.loads(json.dumps(seen.data(), allow_nan=False))
    assert (data["format"], data["backend"], data["dtype"]) == (1, "numpy", "float32")
    assert (data["loss_name"], data["inputs"]) == ("mean_squared_error", ["x"])
    assert data["optimizer"].startswith("Adam(")
    assert [(one["name"], one["from"], one["inside"]) for one in data["layers"]] == [
        ("0.conv2d", ["x"], None),
        ("1.flatten", ["0.conv2d"], None),
        ("2.dense", ["1.flatten"], None),
        ("3.sigmoid", ["2.dense"], None),
    ]
    (step,), (seen_step,) = data["steps"], seen.steps
    assert (step["number"], step["loss"]) == (1, seen_step.loss)
    np.testing.assert_array_equal(numbers(step["targets"]), np.eye(2)[[0, 1, 0]])
    assert step["layers"].keys() == seen_step.layers.keys()
    for name, view in seen_step.layers.items():
        there = step["layers"][name]
        np.testing.assert_array_equal(numbers(there["output"]), view.output)
        np.testing.assert_array_equal(numbers(there["delta"]), view.delta)
        for part in ("inputs", "passed"):
            for one, array in zip(there[part], getattr(view, part), strict=True):
                np.testing.assert_array_equal(numbers(one), array)
        for part in ("params", "grads", "updates", "kept"):
            assert there[part].keys() == getattr(view, part).keys()
            for key, array in getattr(view, part).items():
                np.testing.assert_array_equal(numbers(there[part][key]), array)


def test_of_many_arrays_fewer_numbers_are_shown_of_each():
    net = Network([Dense(64)], (64,), seed=0)
    x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    one = explain(net, x, x, "mse")
    many = dataclasses.replace(one, steps=one.steps * 400)
    held = [record.data()["steps"][0]["layers"]["0.dense"]["output"] for record in (one, many)]
    assert [array["shown"] for array in held] == [[64, 64], [22, 22]]
    assert held[0]["norm"] == held[1]["norm"]


def test_windows_are_told_of_layers_whose_output_has_their_places():
    net = Network(
        [
            Conv2D(2, (3, 2), stride=(2, 1), padding="same"),
            ConvTranspose2D(1, 2, stride=2),
            Flatten(),
            Dense(1),
        ],
        (6, 5, 1),
    )
    seen = explain(net, np.ones((2, 6, 5, 1)), np.ones((2, 1)), "mse")
    layers = seen.data()["steps"][0]["layers"]
    high, wide = layers["0.conv2d"]["windows"]
    assert high == {"size": 3, "stride": 2, "dilation": 1, "low": 0}
    assert wide == {"size": 2, "stride": 1, "dilation": 1, "low": 0}
    others = [name for name in layers if name != "0.conv2d"]
    assert [layers[name]["windows"] for name in others] == [[]] * len(others)
