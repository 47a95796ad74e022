"""What layers run on while they are traced: stand-ins for arrays, and constants."""

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from xpnn.errors import ExportError
from xpnn.onnx.sizes import Size
from xpnn.typing import Namespace

if TYPE_CHECKING:
    from xpnn.onnx.tape import Tape


class Constant(np.ndarray):
    """An array that is the same whatever comes in: NumPy works with it as always.

    But for a part whose length is free, which only the graph can cut out.
    """

    tape: "Tape | None" = None

    def __array_finalize__(self, source: Any) -> None:
        self.tape = getattr(source, "tape", None)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if self.tape is not None and any(_is_free(one) for one in parts):
            return self.tape.xp.part_of(self, key)
        return super().__getitem__(key)


def constant(array: Any, tape: "Tape | None") -> Constant:
    """NumPy's array as a constant of that tape."""
    made = np.asarray(array).view(Constant)
    made.tape = tape
    return made


def _is_free(key: Any) -> bool:
    if isinstance(key, slice):
        return any(isinstance(one, Size) for one in (key.start, key.stop, key.step))
    return isinstance(key, Size)


class Traced:
    """Stands for an array of the graph: it has a shape and a dtype, and no values.

    Operators, and NumPy's functions of one number at a time, note what they do.
    """

    __slots__ = ("__weakref__", "dtype", "name", "shape", "tape")

    device = "cpu"
    __hash__ = object.__hash__

    def __init__(self, tape: "Tape", name: str, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self.tape, self.name, self.shape, self.dtype = tape, name, shape, dtype

    def __repr__(self) -> str:
        return f"<{self.name}: {self.dtype} {self.shape}>"

    # What an array knows of itself ----------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        count = 1
        for length in self.shape:
            count = count * length
        return count

    @property
    def T(self) -> Any:  # noqa: N802  (the standard's name)
        return self.tape.xp.permute_dims(self, tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Any:  # noqa: N802
        return self.tape.xp.matrix_transpose(self)

    def __len__(self) -> int:
        return self.shape[0]

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return self.tape.xp

    # What makes arrays of it ----------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return self.tape.xp.part_of(self, key)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """What NumPy calls, such as for ``constant + stand_in``; ``+=`` then is ``+``.

        But not into a part of a constant, which the whole would know nothing of.
        """
        out = options.pop("out", ())
        if method != "__call__" or options or any(map(_shows_elsewhere, out)):
            self._refuse_to_tell()
        return getattr(self.tape.xp, ufunc.__name__)(*inputs)

    # What is of values ----------------------------------------------------------------------------

    def _refuse_to_tell(self, *_: Any, **__: Any) -> NoReturn:
        raise ExportError(
            f"the value of an array is read, or written into, while there is none yet ({self!r}); "
            f"choose by self.xp.where, and make new arrays"
        )

    __array__ = __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse_to_tell
    __setitem__ = __delitem__ = __iter__ = __format__ = _refuse_to_tell


def _shows_elsewhere(out: Any) -> bool:
    """Whether others would see what is written there: it is a stand-in, or a part of an array."""
    return isinstance(out, Traced) or (out.base is not None and out.base.size > out.size)


OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}


def _operator(name: str, reflected: bool = False) -> Any:
    def operate(self: Traced, *others: Any) -> Any:
        if any(
            not isinstance(one, Traced | np.ndarray | np.generic | int | float) for one in others
        ):
            return NotImplemented
        pair = (*others, self) if reflected else (self, *others)
        return getattr(self.tape.xp, name)(*pair)

    return operate


for _short, _name in {**OPERATORS, **COMPARISONS, **UNARY}.items():
    setattr(Traced, f"__{_short}__", _operator(_name))
for _short, _name in OPERATORS.items():
    setattr(Traced, f"__r{_short}__", _operator(_name, reflected=True))
