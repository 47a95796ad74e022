"""Columns of NumPy, pandas, polars and pyarrow."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.data.columns.column import (
    Column,
    Kind,
    Label,
    factorized,
    is_missing,
    kind_of_objects,
    plain_label,
    since_1970,
    unknown,
)


class ArrayColumn(Column):
    """A NumPy array, or a list of Python's objects."""

    def __init__(self, name: str, values: Any, place: Callable[[int], str] = "row {}".format):
        super().__init__(name, values, place)
        kinds: dict[str, Kind] = {
            "b": "booleans", "i": "integers", "u": "integers", "f": "floats", "U": "texts",
            "T": "texts", "M": "dates",
        }  # fmt: skip
        code = values.dtype.kind
        if code == "O":
            self.kind = kind_of_objects(values.tolist(), name)
        elif code in kinds:
            self.kind = kinds[code]
        else:
            raise unknown(name, f"an array of {values.dtype}")

    def __len__(self) -> int:
        return len(self.values)

    def value(self, row: int) -> Any:
        return self.values[row]

    def _floats(self) -> np.ndarray:
        if self.values.dtype.kind == "O":
            values = self.values.tolist()
            return np.asarray([np.nan if is_missing(one) else float(one) for one in values])
        return np.asarray(self.values, np.float64)

    def _microseconds(self) -> np.ndarray:
        values = self.values
        if values.dtype.kind == "O":
            return np.asarray([since_1970(one) for one in values.tolist()], np.float64)
        return microseconds_of(values)

    def _labels(self) -> tuple[np.ndarray, list[Label]]:
        return factorized(self.values.tolist())


def microseconds_of(dates: np.ndarray) -> np.ndarray:
    """Microseconds of datetime64 in float64, NaN for NaT."""
    whole = dates.astype("datetime64[us]")
    return np.where(np.isnat(whole), np.nan, whole.astype(np.int64).astype(np.float64))


def _is_object(dtype: Any) -> bool:
    """Whether it is NumPy's, of Python's objects."""
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


class PandasColumn(Column):
    """A Series of pandas."""

    def __init__(self, name: str, values: Any, place: Callable[[int], str] = "row {}".format):
        super().__init__(name, values, place)
        from pandas.api import types

        kinds: list[tuple[Callable[[Any], bool], Kind]] = [
            (types.is_bool_dtype, "booleans"),
            (types.is_integer_dtype, "integers"),
            (types.is_float_dtype, "floats"),
            (types.is_datetime64_any_dtype, "dates"),
        ]
        dtype = values.dtype
        if isinstance(dtype, types.CategoricalDtype):
            self.kind = "categories"
        elif _is_object(dtype):
            self.kind = kind_of_objects(values.tolist(), name)
        elif found := next((kind for is_one, kind in kinds if is_one(dtype)), None):
            self.kind = found
        elif types.is_string_dtype(dtype):
            self.kind = "texts"
        else:
            raise unknown(name, f"a Series of {dtype}")

    def __len__(self) -> int:
        return len(self.values)

    def value(self, row: int) -> Any:
        return self.values.iloc[row]

    def _floats(self) -> np.ndarray:
        if _is_object(self.values.dtype):
            return ArrayColumn(self.name, self.values.to_numpy(), self.place)._floats()
        found: np.ndarray = self.values.to_numpy(dtype="float64", na_value=np.nan)
        return found

    def _microseconds(self) -> np.ndarray:
        if _is_object(self.values.dtype):
            return ArrayColumn(self.name, self.values.to_numpy(), self.place)._microseconds()
        zone = getattr(self.values.dt, "tz", None)
        plain = self.values if zone is None else self.values.dt.tz_convert(None)
        return microseconds_of(
            plain.to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT"))
        )

    def _labels(self) -> tuple[np.ndarray, list[Label]]:
        if _is_object(self.values.dtype):
            return factorized(self.values.tolist())
        codes, labels = self.values.factorize()
        return np.asarray(codes, np.int64), [plain_label(one) for one in labels.tolist()]


class PolarsColumn(Column):
    """A Series of polars."""

    def __init__(self, name: str, values: Any, place: Callable[[int], str] = "row {}".format):
        super().__init__(name, values, place)
        import polars

        dtype = values.dtype
        if dtype in (polars.Categorical, polars.Enum):
            self.kind = "categories"
        elif dtype == polars.String:
            self.kind = "texts"
        elif dtype == polars.Boolean:
            self.kind = "booleans"
        elif dtype == polars.Null or values.null_count() == len(values):
            self.kind = "nothing"
        elif dtype.is_integer():
            self.kind = "integers"
        elif dtype.is_numeric():
            self.kind = "floats"
        elif dtype in (polars.Date, polars.Datetime):
            self.kind = "dates"
        else:
            raise unknown(name, f"a Series of {dtype}")

    def __len__(self) -> int:
        return len(self.values)

    def value(self, row: int) -> Any:
        return self.values[row]

    def _floats(self) -> np.ndarray:
        import polars

        return np.asarray(self.values.cast(polars.Float64).to_numpy(), np.float64)

    def _microseconds(self) -> np.ndarray:
        import polars

        values = (
            self.values.cast(polars.Datetime("us"))
            if self.values.dtype == polars.Date
            else (self.values.dt.cast_time_unit("us"))
        )
        return np.asarray(values.to_physical().cast(polars.Float64).to_numpy(), np.float64)

    def _labels(self) -> tuple[np.ndarray, list[Label]]:
        import polars

        values = self.values
        if values.dtype in (polars.Categorical, polars.Enum):
            values = values.cast(polars.String)
        if values.dtype.is_float():
            values = values.fill_nan(None)
        known = values.drop_nulls().unique(maintain_order=True)
        codes = values.replace_strict(
            known,
            polars.Series(range(len(known)), dtype=polars.Int64),
            default=-1,
            return_dtype=polars.Int64,
        )
        return codes.fill_null(-1).to_numpy(), [plain_label(one) for one in known.to_list()]


class ArrowColumn(Column):
    """A chunked array of pyarrow."""

    def __init__(self, name: str, values: Any, place: Callable[[int], str] = "row {}".format):
        import pyarrow

        is_ = pyarrow.types
        if isinstance(values, pyarrow.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pyarrow.ChunkedArray):  # of several chunks, as they are too large
            values = pyarrow.concat_arrays(values.chunks)
        super().__init__(name, values, place)
        kinds: list[tuple[Callable[[Any], bool], Kind]] = [
            (is_.is_dictionary, "categories"),
            (is_.is_boolean, "booleans"),
            (is_.is_integer, "integers"),
            (is_.is_floating, "floats"),
            (is_.is_decimal, "floats"),
            (is_.is_date, "dates"),
            (is_.is_timestamp, "dates"),
            (is_.is_string, "texts"),
            (is_.is_large_string, "texts"),
            (is_.is_string_view, "texts"),
            (is_.is_null, "nothing"),
        ]
        found = next((kind for is_one, kind in kinds if is_one(values.type)), None)
        if found is None:
            raise unknown(name, f"an array of {values.type}")
        self.kind = found

    def __len__(self) -> int:
        return len(self.values)

    def value(self, row: int) -> Any:
        return self.values[row].as_py()

    def _floats(self) -> np.ndarray:
        import pyarrow

        floats = self.values.cast(pyarrow.float64(), safe=False)
        return np.asarray(floats.to_numpy(zero_copy_only=False), np.float64)

    def _microseconds(self) -> np.ndarray:
        import pyarrow

        zone = getattr(self.values.type, "tz", None)
        values = self.values.cast(pyarrow.timestamp("us", zone), safe=False)
        values = values.cast(pyarrow.int64()).cast(pyarrow.float64(), safe=False)
        return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)

    def _labels(self) -> tuple[np.ndarray, list[Label]]:
        import pyarrow

        values = self.values
        if pyarrow.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pyarrow.types.is_floating(values.type):
            values = pyarrow.array(values.to_numpy(zero_copy_only=False), from_pandas=True)
        encoded = values.dictionary_encode()
        codes = encoded.indices.cast(pyarrow.int64()).fill_null(-1)
        return codes.to_numpy(zero_copy_only=False), [
            plain_label(one) for one in encoded.dictionary.to_pylist()
        ]
