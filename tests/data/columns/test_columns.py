"""Columns of tables as numbers and ids, beside what pandas and scikit-learn make of them."""

import datetime
import math

import numpy as np
import pytest

import xpnn
from xpnn import Dense, Network
from xpnn.data import Bucketed, Columns, Dates, Embedded, Numbers, OneHot, Standardized
from xpnn.errors import DataError, NotBuiltError, ShapeError

ROWS = 300
COLORS = ["red", "green", "blue"]


def made(rows=ROWS, seed=0):
    """A table as a dict of lists, with gaps, of every kind of column."""
    rng = np.random.default_rng(seed)
    price = (5 + 2 * rng.standard_normal(rows)).tolist()
    begin = datetime.datetime(2021, 3, 1)
    return {
        "price": [None if k % 7 == 3 else one for k, one in enumerate(price)],
        "count": rng.integers(0, 9, rows).tolist(),
        "sold": (rng.random(rows) > 0.5).tolist(),
        "color": [None if k % 11 == 5 else COLORS[k % 3] for k in range(rows)],
        "shop": [f"shop {k:02}" for k in rng.integers(0, 30, rows)],
        "when": [begin + datetime.timedelta(minutes=int(m)) for m in rng.integers(0, 10**6, rows)],
        "kind": [["cat", "dog"][k] for k in rng.integers(0, 2, rows)],
    }


def pandas_of(table):
    return pytest.importorskip("pandas").DataFrame(table)


def pandas_of_arrow(table):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    return pyarrow.table(table).to_pandas(types_mapper=pandas.ArrowDtype)


def pandas_of_categories(table):
    frame = pandas_of(table)
    return frame.astype({"color": "category", "shop": "category", "count": "Int64"})


def pandas_in_utc(table):
    frame = pandas_of(table)
    return frame.assign(when=frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))


def polars_of(table):
    return pytest.importorskip("polars").DataFrame(table)


def polars_of_categories(table):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(table).with_columns(
        polars.col("color").cast(polars.Categorical),
        polars.col("shop").cast(polars.Enum(sorted(set(table["shop"])))),
    )


def arrow_of(table):
    return pytest.importorskip("pyarrow").table(table)


def arrow_of_dictionaries(table):
    found = arrow_of(table)
    place = found.schema.get_field_index("color")
    return found.set_column(place, "color", found.column("color").dictionary_encode())


def batch_of_arrow(table):
    return pytest.importorskip("pyarrow").RecordBatch.from_pydict(table)


def arrays_of(table):
    price = np.asarray([np.nan if one is None else one for one in table["price"]])
    return {**table, "price": price, "when": np.asarray(table["when"], "datetime64[s]"),
            "shop": np.asarray(table["shop"]), "sold": np.asarray(table["sold"])}  # fmt: skip


LIBRARIES = [
    *(pandas_of, pandas_of_arrow, pandas_of_categories, pandas_in_utc, polars_of),
    *(polars_of_categories, arrow_of, arrow_of_dictionaries, batch_of_arrow, arrays_of),
]
ENCODINGS = {"count": Bucketed(4)}


def columns(**more):
    return Columns(ENCODINGS, target="kind", **more)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_what_lists_give(library):
    table = made()
    wanted = columns().fit(table)
    given = library(table)
    found = columns().fit(given)
    assert found == wanted
    assert repr(found) == repr(wanted)
    for source in (given, library(made(50, seed=1))):
        plain = table if source is given else made(50, seed=1)
        x, y = wanted.transform(plain), wanted.targets(plain)
        for name, array in found.transform(source).items():
            assert array.dtype == x[name].dtype
            np.testing.assert_allclose(array, x[name], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(found.targets(source), y)


def test_what_is_chosen():
    found = columns().fit(made())
    kinds = {name: type(one) for name, one in found.encodings.items()}
    assert kinds == {
        "price": Standardized,
        "count": Bucketed,
        "sold": Numbers,
        "color": OneHot,
        "shop": Embedded,
        "when": Dates,
    }
    x = found.transform(made())
    assert list(x) == ["numbers", "shop"]
    assert x["numbers"].shape == (ROWS, len(found.feature_names))
    assert x["numbers"].dtype == np.float32
    assert (x["shop"].shape, x["shop"].dtype) == ((ROWS, 1), np.int64)
    assert found.feature_names[:2] == ["price", "price is missing"]
    assert found.classes == ("cat", "dog")
    assert found.outputs == 2


def test_one_matrix_where_nothing_is_looked_up():
    found = columns(embed=False).fit(made())
    assert isinstance(found.encodings["shop"], OneHot)
    assert found.transform(made()).shape == (ROWS, len(found.feature_names))
    assert len(found.inputs()[0]) == 1


def of(found, *names):
    """The features of these names, whose columns all are numbers."""
    places = [found.feature_names.index(name) for name in names]
    return lambda table: found.transform(table)[:, places]


def test_standardized_as_scikit_learn_does():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(3)
    a, b = 1e6 + rng.standard_normal(ROWS), np.full(ROWS, 0.1)
    a[::5] = np.nan
    found = Columns().fit([{"a": a[:40], "b": b[:40]}, {"a": a[40:], "b": b[40:]}])
    scaler = preprocessing.StandardScaler().fit(np.stack([a, b], axis=1))
    wanted = np.nan_to_num(scaler.transform(np.stack([a, b], axis=1)))
    np.testing.assert_allclose(of(found, "a", "b")({"a": a, "b": b}), wanted, rtol=2e-5, atol=1e-6)
    missing = of(found, "a is missing")({"a": a, "b": b})[:, 0]
    np.testing.assert_array_equal(missing, np.isnan(a))


@pytest.mark.parametrize("limit", [50, 3])
def test_one_hot_as_scikit_learn_does(limit):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(4)
    words = rng.choice(list("abcde"), ROWS, p=[0.3, 0.08, 0.22, 0.1, 0.3]).astype(object)
    new = np.asarray(["c", "a", "new", "d"], object)
    limited = {"max_categories": limit + 1} if limit < 5 else {}
    handle = "infrequent_if_exist" if limited else "ignore"
    theirs = preprocessing.OneHotEncoder(handle_unknown=handle, sparse_output=False, **limited)
    theirs.fit(words[:, None])
    found = Columns({"w": OneHot(limit)}).fit({"w": words})
    for given in (words, new):
        np.testing.assert_array_equal(
            found.transform({"w": given}), theirs.transform(given[:, None])
        )


def test_gaps_in_what_had_none_are_taken_for_unknown():
    """With a place for others that is theirs, without one no feature is 1."""
    words = {"w": ["a", "a", "b", "b", "c"]}
    for limit, others in ((2, [0, 0, 1]), (5, [0, 0, 0])):
        found = Columns({"w": OneHot(limit)}).fit(words)
        assert found.transform({"w": [None, "new"]}).tolist() == [others, others]
    numbers = Columns({"n": Standardized(), "m": Numbers()}).fit({"n": [1, 3], "m": [4, 5]})
    assert numbers.transform({"n": [None, 3], "m": [5, None]}).tolist() == [[0, 5], [1, 0]]


def test_bounds_belong_to_the_bucket_above_and_no_bucket_is_empty():
    found = Columns({"x": Bucketed(4)}).fit({"x": [0, 0, 0, 0, 0, 1, 2, 3]})
    assert found.encodings["x"].bounds == (1.25,)
    found = Columns({"x": Bucketed(2)}).fit({"x": [1, 2, 3]})
    assert found.transform({"x": [1.9, 2, 2.1]}).tolist() == [[1, 0], [0, 1], [0, 1]]
    assert found.feature_names == ["x in [, 2)", "x in [2, )"]


@pytest.mark.parametrize("buckets", [2, 5, 10])
def test_bucketed_as_scikit_learn_does(buckets):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(5).standard_normal(ROWS)
    theirs = preprocessing.KBinsDiscretizer(
        buckets,
        encode="onehot-dense",
        strategy="quantile",
        quantile_method="linear",
        subsample=None,
    ).fit(x[:, None])
    found = Columns({"x": Bucketed(buckets)}).fit({"x": x})
    new = np.linspace(-9, 9, 50)
    np.testing.assert_array_equal(found.transform({"x": new}), theirs.transform(new[:, None]))
    ids = Columns({"x": Bucketed(buckets, features=3)}).fit({"x": x})
    wanted = 1 + theirs.transform(new[:, None]).argmax(axis=1)
    gaps = np.append(new, np.nan)
    assert ids.transform({"x": gaps})["x"][:, 0].tolist() == [*wanted.tolist(), 0]
    assert ids.encodings["x"].vocabulary == buckets + 1


def test_ids_have_places_for_what_is_missing_and_for_what_is_new():
    table = {"shop": ["b", None, "a", "b", "c", "c", "b"]}
    found = Columns({"shop": Embedded(limit=2)}).fit(table)
    assert found.encodings["shop"].labels == ("b", "c")
    new = {"shop": [None, "never seen", "a", "b", "c"]}
    assert found.transform(new)["shop"][:, 0].tolist() == [0, 1, 1, 2, 3]
    assert found.encodings["shop"].vocabulary == 4


def test_labels_may_be_numbers():
    """And stay the same where gaps have made floats of integers, as pandas does."""
    found = Columns({"zip": Embedded(2)}).fit({"zip": np.asarray([10, 7, 2**60 + 1])})
    assert found.encodings["zip"].labels == (7, 10, 2**60 + 1)
    assert found.transform({"zip": np.asarray([7.0, np.nan, 8.0])})["zip"][:, 0].tolist() == [
        2,
        0,
        1,
    ]


def polars_in_utc(values):
    polars = pytest.importorskip("polars")
    return {
        "d": polars.Series(values).dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    }


def arrow_in_utc(values):
    pa = pytest.importorskip("pyarrow")
    return pa.table({"d": pa.array(values, pa.timestamp("ms", "UTC"))})


DATES = {
    "Python's objects": lambda values: {"d": values},
    "Python's objects in a zone": lambda values: {
        "d": [v and v.replace(tzinfo=datetime.UTC) for v in values]
    },
    **{
        f"NumPy in {unit}": lambda values, unit=unit: {
            "d": np.asarray(values, f"datetime64[{unit}]")
        }
        for unit in ("s", "us", "ns")
    },
    "pandas": lambda values: pandas_of({"d": values}),
    "pandas in a zone": lambda values: pandas_of({"d": values}).assign(
        d=lambda frame: frame["d"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    ),
    "pandas with objects": lambda values: pandas_of({"d": values}).astype(object),
    "polars": lambda values: polars_of({"d": values}),
    "polars in a zone": polars_in_utc,
    "pyarrow in a zone": arrow_in_utc,
}


@pytest.mark.parametrize("library", DATES)
def test_dates_are_those_of_utc_in_every_library(library):
    values = [datetime.datetime(2024, 2, 29, 23, 30), None, datetime.datetime(1969, 12, 31)]
    table = DATES[library](values)
    found = Columns({"d": "one-hot"}).fit(table)
    assert found.encodings["d"].labels == ("1969-12-31", "2024-02-29T23:30:00")
    found = Columns().fit(table).encodings["d"]
    days = [19_782 + 23.5 / 24, -1.0]  # since 1970
    assert found.mean == pytest.approx(np.mean(days), rel=1e-12)
    assert found.deviation == pytest.approx(np.std(days), rel=1e-12)
    with pytest.raises(DataError, match=r"wanted finite numbers in column 'd', got .* in row 0"):
        Columns({"d": "numbers"}).fit(table)


def test_dates_as_pandas_tells_them():
    pandas = pytest.importorskip("pandas")
    days = pandas.Series(pandas.date_range("2019-12-28", periods=900, freq="17h"))
    found = Columns().fit({"d": days})
    x = dict(zip(found.feature_names, found.transform({"d": days}).T, strict=True))
    assert list(x) == [
        "d",
        *(f"d, {w} of {p}" for p in ("year", "week", "day") for w in ("sin", "cos")),
    ]
    since = (days - pandas.Timestamp("1970-01-01")) / pandas.Timedelta("1D")
    np.testing.assert_allclose(
        x["d"], (since - since.mean()) / since.std(ddof=0), rtol=1e-5, atol=1e-6
    )
    hour = 2 * np.pi * days.dt.hour / 24
    np.testing.assert_allclose(x["d, sin of day"], np.sin(hour), atol=1e-6)
    day = (days.dt.day_of_week + 4) % 7 + days.dt.hour / 24  # 1970 began on a Thursday
    np.testing.assert_allclose(x["d, cos of week"], np.cos(2 * np.pi * day / 7), atol=1e-6)
    year = 2 * np.pi * (days.dt.day_of_year - 1) / 365.2425  # but for leap days
    np.testing.assert_allclose(x["d, sin of year"], np.sin(year), atol=0.03)


def test_dates_without_times_have_no_time_of_day():
    table = {"d": [datetime.date(2024, 2, 29), None, datetime.date(2024, 3, 1)]}
    found = Columns().fit(table)
    assert found.feature_names[-2:] == ["d, cos of week", "d is missing"]
    np.testing.assert_array_equal(found.transform(table)[1], [0, 0, 0, 0, 0, 1])
    texts = Columns({"d": "dates"}).fit({"d": ["2024-02-29", None, "2024-03-01"]})
    assert texts == found


@pytest.mark.parametrize("size", [1, 7, 100])
def test_stretches_teach_what_the_whole_teaches(size):
    table = made()
    parts = [{k: one[at : at + size] for k, one in table.items()} for at in range(0, ROWS, size)]
    whole, found = columns().fit(table), columns().fit(iter(parts))
    assert found.feature_names == whole.feature_names
    assert found.encodings["shop"] == whole.encodings["shop"]
    assert found.encodings["count"] == whole.encodings["count"]
    for name, array in whole.transform(table).items():
        np.testing.assert_allclose(found.transform(table)[name], array, rtol=1e-5, atol=1e-6)


def test_gaps_before_the_first_value_are_counted():
    found = Columns().fit(
        [{"a": [None, None], "b": [None] * 2}, {"a": [1.0, 3.0], "b": [None] * 2}]
    )
    assert found.encodings["b"] is None
    assert found.encodings["a"] == Standardized(2.0, 1.0, marks_missing=True)


@pytest.mark.parametrize("library", [dict, pandas_of, polars_of, arrow_of])
def test_what_has_nothing_but_gaps_in_training_is_left_out(library):
    gaps = {
        "number": np.full(3, np.nan),
        "day": np.full(3, "NaT", "datetime64[us]"),
        "nothing": np.full(3, None),
    }
    found = Columns().fit(library({**gaps, "a": np.arange(3.0)}))
    assert found.feature_names == ["a"]
    said = Columns({"number": "standardized"}).fit(library({**gaps, "a": np.arange(3.0)}))
    assert said.feature_names == ["number", "number is missing", "a"]


def test_labels_of_dates_of_any_year():
    days = np.asarray(["12024-02-29", "-0044-03-15", "2024-02-29"], "datetime64[D]")
    found = Columns({"day": "one-hot"}).fit({"day": [*days]})  # a list of NumPy's scalars
    assert sorted(found.encodings["day"].labels) == ["-044-03-15", "12024-02-29", "2024-02-29"]
    np.testing.assert_array_equal(found.transform({"day": days}).sum(axis=0), 1)


@pytest.mark.parametrize("library", [dict, pandas_of, polars_of, arrow_of, batch_of_arrow])
def test_no_rows_and_nothing_but_gaps_are_encoded(library):
    table = made(20)
    found = columns().fit(table)
    for rows in (0, 3):
        gaps = {name: one[:rows] for name, one in table.items()}
        gaps |= {"color": [None] * rows, "shop": [None] * rows, "price": [None] * rows}
        x = found.transform(library(gaps))
        assert x["numbers"].shape == (rows, len(found.feature_names))
        assert x["shop"].tolist() == [[0]] * rows


def test_memory_is_bounded():
    """Of very many labels the first are counted, of very many numbers some are kept."""
    from xpnn.data.columns.statistics import Counts, Sample

    counts = Counts(most=3)
    counts.add(np.asarray([0, 1, 2, 3, 3, 4]), list("abcde"))
    counts.add(np.asarray([0, 0]), ["b"])
    assert (counts.most_common(2), counts.uncounted, len(counts.counts)) == (["a", "b"], 3, 3)
    numbers = np.random.default_rng(0).permutation(50_000).astype(float)
    whole, parts = Sample(2000), Sample(2000)
    whole.add(numbers)
    for part in np.array_split(numbers, 13):
        parts.add(part)
    np.testing.assert_array_equal(whole.numbers, parts.numbers)
    assert len(whole.numbers) == 2000
    # the deviation of a median of 2000 numbers out of 50,000 is 50,000 / (2 sqrt(2000)), or 559
    assert abs(np.median(whole.numbers) - 25_000) < 4 * 559


TARGETS = {
    "texts": (["b", "a", "b"], None, [1, 0, 1], np.int64),
    "booleans": ([True, False, True], None, [1, 0, 1], np.int64),
    "few whole numbers": ([3, 7, 3, 7], None, [0, 1, 0, 1], np.int64),
    "whole numbers": ([3, 7, 5], None, [[3], [7], [5]], np.float32),
    "numbers": ([0.5, 1.0, 0.5], None, [[0.5], [1.0], [0.5]], np.float32),
    "told numbers": ([3, 7, 3, 7], "numbers", [[3], [7], [3], [7]], np.float32),
    "told classes": ([0.5, 1.0, 0.5], "classes", [0, 1, 0], np.int64),
    "standardized": ([3, 7, 3, 7], "standardized", [[-1], [1], [-1], [1]], np.float32),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets(case):
    values, task, wanted, dtype = TARGETS[case]
    table = {"x": np.arange(len(values)), "y": values}
    found = Columns(target="y", target_as=task).fit(table)
    y = found.targets(table)
    assert y.dtype == dtype
    assert y.tolist() == wanted
    outputs = np.eye(found.outputs)[y] if dtype == np.int64 else y
    decoded = found.decode(outputs)
    assert decoded.ravel().tolist() == values


def test_several_targets_are_numbers():
    table = {"x": [1, 2], "a": [3, 5], "b": [0.5, 1.5]}
    found = Columns(target=["b", "a"], target_as="standardized").fit(table)
    np.testing.assert_array_equal(found.targets(table), [[-1, -1], [1, 1]])
    np.testing.assert_array_equal(found.decode([[0, 1]]), [[1, 5]])


def test_one_output_for_two_classes_is_a_logit():
    found = Columns(target="y").fit({"x": [1, 2], "y": ["no", "yes"]})
    assert found.decode([[-0.5], [3.0]]).tolist() == ["no", "yes"]
    with pytest.raises(ShapeError, match=r"shape \(rows, 2\)"):
        found.decode([[1, 2, 3]])


def test_a_network_learns_from_a_table_on_every_backend(backend):
    table = made()
    table["kind"] = ["cat" if int(shop[-2:]) % 3 else "dog" for shop in table["shop"]]
    found = columns().fit(table)
    inputs, features = found.inputs()
    network = Network(
        inputs=inputs, outputs=Dense(found.outputs)(features), backend=backend, seed=1
    )
    trainer = xpnn.Trainer(network, xpnn.cross_entropy, xpnn.Adam(0.05), metrics=[xpnn.Accuracy()])
    trainer.fit(found.batches(table, batch_size=50, window=ROWS), epochs=8, progress=False)
    x, y = found.transform(table), found.targets(table)
    assert trainer.evaluate(found.batches(table))["accuracy"] > 0.95
    assert np.mean(found.decode(network.predict(x)) == np.asarray(table["kind"])) > 0.95
    assert trainer.evaluate(x, y)["accuracy"] > 0.95


def test_batches_hold_every_row_once_and_begin_anywhere():
    table = {"x": np.arange(47.0), "y": np.arange(47.0)}
    parts = [{k: one[at : at + 9] for k, one in table.items()} for at in range(0, 47, 9)]
    found = Columns({"x": "numbers"}, target="y").fit(table)
    for window in (None, 10, 100):
        batches = found.batches(parts, batch_size=4, window=window, seed=2)
        for epoch in range(2):
            listed = list(batches.batches(epoch))
            assert [len(y) for _, y in listed] == [4] * 11 + [3]
            rows = np.concatenate([y for _, y in listed])[:, 0]
            assert sorted(rows.tolist()) == table["y"].tolist()
            assert (rows.tolist() == table["y"].tolist()) == (window is None)
            for x, y in listed:
                np.testing.assert_array_equal(x, y)
            for start in (1, 5, 11):
                tail = np.concatenate([y for _, y in batches.batches(epoch, start)])[:, 0]
                np.testing.assert_array_equal(tail, rows[4 * start :])
        with pytest.raises(DataError, match="rows too few"):
            list(batches.batches(0, 30))


# What is wrong ------------------------------------------------------------------------------------

TABLE = {"a": [1.0, 2.0, 3.0], "w": ["u", "v", "u"], "y": ["p", "q", "p"]}
WRONG = {
    "a column is missing": (lambda c: c.transform({"a": [1.0]}), DataError, "a column 'w'"),
    "a text among numbers": (
        lambda c: c.transform({**TABLE, "a": [1.0, "x", 3.0]}),
        DataError,
        r"numbers in column 'a', got 'x' in row 1 \(the first is 0\)",
    ),
    "infinite": (
        lambda c: c.transform({**TABLE, "a": [1.0, 2.0, math.inf]}),
        DataError,
        "column 'a', got inf in row 2",
    ),
    "numbers where texts were": (
        lambda c: c.transform({**TABLE, "w": [None, 1, 2]}),
        DataError,
        "wanted texts, as in training, in column 'w', got 1 in row 1",
    ),
    "a new class": (
        lambda c: c.targets({**TABLE, "y": ["p", "r", "z"]}),
        DataError,
        "one of 'p', 'q', in column 'y', got 'r' in row 1",
    ),
    "no class": (
        lambda c: c.targets({**TABLE, "y": ["p", "q", None]}),
        DataError,
        "column 'y', got none in row 2",
    ),
    "lengths": (lambda c: c.transform({**TABLE, "a": [1.0]}), ShapeError, "a has 1, w has 3"),
    "one row": (lambda c: c.transform({"a": 1.0, "w": "u"}), ShapeError, r"shape \(\); make it"),
    "no table": (lambda c: c.transform([[1.0]]), TypeError, "wanted a DataFrame of pandas"),
    "axes": (
        lambda c: c.transform({**TABLE, "a": np.ones((3, 2))}),
        ShapeError,
        r"column 'a', got an array of shape \(3, 2\)",
    ),
    "complex": (
        lambda c: c.transform({**TABLE, "a": np.ones(3, complex)}),
        DataError,
        "column 'a', got an array of complex128",
    ),
    "an iterator": (lambda c: c.batches(iter([TABLE])), TypeError, "once for each epoch"),
    "two kinds": (
        lambda c: Columns().fit({"a": [1, None, "n/a", 2]}),
        DataError,
        "values of one kind in column 'a', got 'n/a' in row 2",
    ),
    "a later stretch": (
        lambda c: Columns().fit([{"a": [1, 2]}, {"a": ["3", "many"]}]),
        DataError,
        "numbers in column 'a', got 'many' in row 3",
    ),
    "two kinds of texts": (
        lambda c: Columns().fit({"a": [None, datetime.date(2024, 1, 2), "later"]}),
        DataError,
        "values of one kind in column 'a', got 'later' in row 2",
    ),
    "two kinds of numbers": (
        lambda c: Columns().fit({"a": [True, None, 2]}),
        DataError,
        "values of one kind in column 'a', got 2 in row 2",
    ),
    "a target beyond float32": (
        lambda c: Columns(target="y").fit({"a": [1, 2], "y": [1.5, 1e300]}).targets(
            {"y": [1.5, 1e300]}
        ),
        DataError,
        r"fit into float32 in column 'y', got 1e\+300 in row 1",
    ),
    "objects": (lambda c: Columns().fit({"a": [object()]}), DataError, "objects of type object"),
    "no rows": (lambda c: Columns().fit({"a": []}), DataError, "at least one row"),
    "nothing to give": (lambda c: Columns({"a": None}).fit({"a": [1]}), DataError, "one column"),
    "no such column": (lambda c: Columns({"b": None}).fit({"a": [1]}), DataError, "column 'b'"),
    "no such encoding": (lambda c: Columns({"b": "onehot"}), ValueError, "did you mean 'one-hot'"),
    "no encoding": (lambda c: Columns({"b": 3}), TypeError, "an encoding of column 'b'"),
    "both": (lambda c: Columns({"y": None}, target="y"), ValueError, "'y' to be the target or"),
    "huge": (lambda c: Columns().fit({"a": [1e200, -1e200]}), DataError, "column 'a': wanted"),
    "float32": (
        lambda c: Columns({"a": "numbers"}).fit({"a": [1.0]}).transform({"a": [0.0, 1e300]}),
        DataError,
        "column 'a', got a larger one in row 1",
    ),
    "one class": (
        lambda c: Columns(target="y").fit({"a": [1, 2], "y": ["p", "p"]}),
        DataError,
        "at least two classes in column 'y', got only 'p'",
    ),
    "a huge target": (
        lambda c: Columns(target="y", target_as="standardized").fit({"a": [1, 2], "y": [0, 1e300]}),
        DataError,
        "column 'y': wanted numbers whose squares",
    ),
    "nothing learned": (lambda c: Columns().transform(TABLE), NotBuiltError, "columns.fit"),
    "no target": (lambda c: Columns().fit(TABLE).targets(TABLE), ValueError, "no target"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    act, error, said = WRONG[case]
    found = Columns(target="y").fit(TABLE)
    before = found.as_plain()
    with pytest.raises(error, match=said):
        act(found)
    assert found.as_plain() == before


@pytest.mark.parametrize("library", [pandas_of, polars_of, arrow_of])
def test_one_column_alone_is_no_table(library):
    column = library(TABLE)["a"]
    with pytest.raises(TypeError, match=r"wanted a DataFrame of pandas"):
        Columns().fit(column)
    with pytest.raises(TypeError, match=r"wanted a DataFrame of pandas"):
        Columns().fit(TABLE).transform(column)


def test_a_fit_that_fails_changes_nothing():
    found = Columns(target="y").fit(TABLE)
    before = found.as_plain()
    with pytest.raises(DataError, match="row 4"):
        found.fit([TABLE, {**TABLE, "a": [1.0, "x", 2.0]}])
    assert found.as_plain() == before
