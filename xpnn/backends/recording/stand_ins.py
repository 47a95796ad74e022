"""What a function is run on while its calls are written down: stand-ins for arrays and numbers.

They tell their ``Tape`` of every call. NumPy hands over its calls by ``__array_ufunc__`` and
``__array_function__``.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnn.backends.recording.calls import NotRecordable, Slot, View
from xpnn.backends.recording.shapes import cast
from xpnn.trees import leaves, tree_map

if TYPE_CHECKING:
    from xpnn.backends.recording.tape import Tape

SHAPE_ONLY = {np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj}
FUNCTIONS = {  # whose results have shapes that follow from those of their arguments
    *(np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.matrix_transpose),
    *(np.expand_dims, np.squeeze, np.broadcast_to, np.broadcast_arrays, np.diagonal),
    *(np.flip, np.roll, np.tile, np.repeat, np.pad, np.tril, np.triu),
    *(np.concatenate, np.stack, np.split, np.unstack, np.take, np.take_along_axis),
    *(np.where, np.clip, np.round, np.full_like, np.copy, np.nan_to_num),
    *(np.dot, np.tensordot, np.outer, np.einsum, np.trace),
    *(np.mean, np.var, np.std, np.cumsum, np.cumprod, np.cumulative_sum, np.diff),
    *(np.count_nonzero, np.argmax, np.argmin, np.sort, np.argsort, np.searchsorted),
}
OF_ZEROS = {np.zeros_like, np.empty_like, np.ones_like}
REDUCTIONS = {
    np.sum: np.add,
    np.prod: np.multiply,
    np.max: np.maximum,
    np.min: np.minimum,
    np.any: np.logical_or,
    np.all: np.logical_and,
}


def _record_ufunc(
    self: "Recorded | RecordedNumber",
    ufunc: np.ufunc,
    method: str,
    *inputs: Any,
    out: Any = None,
    **options: Any,
) -> Any:
    """What NumPy calls instead of a ufunc that has a stand-in among its operands."""
    if method == "reduce" and out is None:
        return self.tape.call(ufunc, inputs, options, method)
    if method != "__call__" or options:
        raise NotRecordable(f"{ufunc.__name__} is called by {method} with {options}")
    if out is not None:
        return self.tape.write(ufunc, inputs, out[0])
    return self.tape.call(ufunc, inputs, {}, method)


def _refuse_to_tell(self: Any, *_: Any, **__: Any) -> Any:
    """What Python calls where it wants a value on the host."""
    raise NotRecordable("a value is read on the host, or handed to a call that hides it")


def _refuse_attribute(self: Any, name: str) -> Any:
    """What Python calls for an attribute that a stand-in does not have."""
    kind = np.ndarray if isinstance(self, Recorded) else type(self.value)
    if name.startswith("__") or not hasattr(kind, name):
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    raise NotRecordable(f"the attribute {name!r} of an array or a number is used")


class Recorded(NDArrayOperatorsMixin):
    """Stands for an array while a tape runs; operators and NumPy's functions note what they do.

    Its ``value`` is a blank array that lies as the array will.
    """

    __slots__ = ("is_scalar", "start", "tape", "value", "view")
    device = "cpu"

    def __init__(self, tape: "Tape", value: np.ndarray, view: View, start: int):
        self.tape, self.value, self.view, self.start = tape, value, view, start
        self.is_scalar = False

    def holds(self, array: np.ndarray) -> bool:
        """Whether ``array`` lies in the memory that this array is part of."""
        return 0 <= address_of(array) - self.start < self.view.memory.nbytes and array.size > 0

    def seen_as(self, array: np.ndarray) -> "Recorded":
        """The stand-in for a view of the same memory."""
        offset = address_of(array) - self.start
        view = View(self.view.memory, offset, array.shape, array.strides, array.dtype)
        return Recorded(self.tape, array, view, self.start)

    # What an array knows of itself ----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def T(self) -> "Recorded":  # noqa: N802  (the standard's name)
        return self.seen_as(self.value.T)

    @property
    def mT(self) -> "Recorded":  # noqa: N802
        return self.seen_as(self.value.mT)

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"<recorded {self.dtype} {self.shape}>"

    # What makes arrays of it ----------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        parts = leaves([key] if not isinstance(key, tuple) else list(key))
        if any(isinstance(one, RecordedNumber) for one in parts):
            raise NotRecordable("a number that changes is an index")
        if any(getattr(one, "dtype", None) == np.bool_ for one in parts):
            raise NotRecordable("the shape of a selection depends on values")
        return self.tape.call(operator.getitem, (self, key), {})

    def astype(self, dtype: Any, copy: bool = True) -> "Recorded":
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return self.tape.call(cast, (self, np.dtype(dtype)), {})

    def reshape(self, *shape: Any) -> "Recorded":
        if any(isinstance(one, RecordedNumber) for one in leaves(list(shape))):
            raise NotRecordable("a number that changes is a length")
        return self.tape.call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    __array_ufunc__ = _record_ufunc

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function in SHAPE_ONLY or function in OF_ZEROS:
            return function(*tree_map(value_of, args), **tree_map(value_of, kwargs))
        if function in REDUCTIONS and "out" not in kwargs:
            return self._reduced(REDUCTIONS[function], *args, **kwargs)
        if function is np.mean and self.dtype.char in "fd":
            total = self._reduced(np.add, *args, **kwargs)
            return total / (self.size // max(total.size, 1))
        if function is np.astype:
            return self.astype(*args[1:], **kwargs)
        given = leaves((args, kwargs))
        if function not in FUNCTIONS or "out" in kwargs or (function is np.where and len(args) < 3):
            raise NotRecordable(f"{function.__name__} is called, which is not known here")
        if any(isinstance(one, RecordedNumber) for one in given):
            raise NotRecordable(f"a number that changes is handed to {function.__name__}")
        return self.tape.call(function, args, kwargs)

    def _reduced(
        self,
        ufunc: np.ufunc,
        a: Any,
        axis: Any = None,
        *,
        keepdims: bool = False,
        dtype: Any = None,
    ) -> "Recorded":
        options = {"axis": axis, "dtype": dtype, "keepdims": keepdims}
        return self.tape.call(ufunc, (a,), options, "reduce")

    # What cannot be replayed ----------------------------------------------------------------------

    __getattr__ = _refuse_attribute
    __array__ = __setitem__ = __delitem__ = __format__ = _refuse_to_tell
    __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse_to_tell


class RecordedNumber:
    """Stands for a Python number that may differ from one run to the next: a counter, a rate."""

    __slots__ = ("slot", "tape", "value")

    def __init__(self, tape: "Tape", value: int | float, slot: Slot):
        self.tape, self.value, self.slot = tape, value, slot

    __array_ufunc__ = _record_ufunc
    __getattr__ = _refuse_attribute
    __array__ = __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse_to_tell
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse_to_tell
    __neg__ = __pos__ = __abs__ = __invert__ = __divmod__ = __rdivmod__ = _refuse_to_tell
    __round__ = __trunc__ = __floor__ = __ceil__ = __format__ = _refuse_to_tell
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse_to_tell

    def __repr__(self) -> str:
        return f"<recorded {self.value!r}>"


def _number_operator(compute: Callable[..., Any], reflected: bool) -> Callable[..., Any]:
    def operate(self: RecordedNumber, other: Any) -> Any:
        if not isinstance(other, RecordedNumber | int | float):
            return NotImplemented
        pair = (other, self) if reflected else (self, other)
        return self.tape.count(compute, pair)

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "xor", "or"):
    _compute = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    setattr(RecordedNumber, f"__{_name}__", _number_operator(_compute, reflected=False))
    setattr(RecordedNumber, f"__r{_name}__", _number_operator(_compute, reflected=True))


def value_of(leaf: Any) -> Any:
    """What a stand-in stands for; anything else as it is."""
    return leaf.value if isinstance(leaf, Recorded | RecordedNumber) else leaf


def address_of(array: np.ndarray) -> int:
    """Where its first item lies."""
    return array.__array_interface__["data"][0]
