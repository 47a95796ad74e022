"""Backend: the portable version of every operation that the array API standard lacks."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from xpnn.errors import BackendUnavailable, DataError
from xpnn.numerics import HOST, erf_by_chebyshev, log_softmax, mix_bits, stream_key
from xpnn.typing import Array, Namespace, Shape

_NOWHERE = nullcontext()


class Backend:
    """One array library on one device.

    Layers do their math on ``xp``, the library under the names of the array API standard. What the
    standard lacks is a method here: written once in portable form, overridden where a library does
    it better, and always held to the portable version by ``tests/backends/test_contract.py``.

    Attributes:
        name: what a user types, such as ``"numpy"``.
        xp: the array namespace.
        device: the library's own device object, or None where it has only one.
        counters_on_device: whether step counts and dropout draws are 0-d arrays (so that a compiled
            step stays right when they change) rather than Python integers.
        small: parameters of up to so many elements are updated in one ``sweep``, as a call costs
            more than the work in it. 0 where calls cost nothing.
        compiles: which functions ``compiled`` compiles if nothing else is said: "all", those that
            are "known" to be pure, or "none".
    """

    name: ClassVar[str]
    library: ClassVar[str]
    install: ClassVar[str]
    counters_on_device: ClassVar[bool] = False
    small: ClassVar[float] = 0
    compiles: ClassVar[Literal["all", "known", "none"]] = "none"

    def __init__(self, device: str | None = None):
        self.xp: Namespace = self.load_namespace()
        self.device: Any = self.resolve_device(device)
        self._hash = self.elementwise(_hash_words)
        self._join = self.elementwise(_join_words)
        self._constants: dict[tuple[float, ...], Array] = {}
        self._indices: dict[int, Array] = {}
        self.spec = self.name if device is None else f"{self.name}:{device}"

    def __repr__(self) -> str:
        return f"<backend {self.spec}>"

    # What a subclass says about its library -------------------------------------------------

    def load_namespace(self) -> Namespace:
        """Import the library and return its namespace; the only place where it is imported."""
        raise NotImplementedError

    def resolve_device(self, device: str | None) -> Any:
        """Turn the part of the spec after the colon into the library's device object."""
        if device not in (None, "cpu"):
            raise BackendUnavailable(
                f"backend {self.name!r} has one device, the CPU, but {device!r} was asked for; "
                f"write {self.name!r}"
            )
        return None

    def owns(self, array: Any) -> bool:
        """Whether ``array`` is of this library and lies on this device."""
        raise NotImplementedError

    def from_numpy(self, array: np.ndarray) -> Array:
        """A NumPy array as an array of this backend; may share memory, is never written to."""
        return self.xp.asarray(array, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """The values on the host, bfloat16 as float32; waits for the device."""
        return in_plain_floats(np.asarray(array))

    def describe_devices(self) -> list[str]:
        """The devices that this library sees, one line each."""
        return ["cpu"]

    # Crossing the boundary ------------------------------------------------------------------

    def dtype(self, name: str) -> Any:
        """The library's dtype of that name, such as ``"float32"``."""
        found = getattr(self.xp, name, None)
        if found is None:
            raise BackendUnavailable(f"{self.name} has no dtype {name!r}; choose another one")
        return found

    def asarray(self, values: Any, dtype: str | None = None) -> Array:
        """Values of any library, or nested lists of numbers, as an array of this backend.

        Nothing is copied where ``values`` already fit. Other libraries' arrays travel through host
        memory. Big-endian, read-only and non-contiguous arrays all work.

        Raises:
            DataError: the values are not numbers (strings, objects, ragged lists).
        """
        if not self.owns(values):
            values = self.from_numpy(_as_native_numbers(_host_array(values)))
        if dtype is None or values.dtype == self.dtype(dtype):
            return values
        return self.xp.astype(values, self.dtype(dtype))

    def zeros(self, shape: Shape, dtype: str) -> Array:
        """Zeros on this backend's device."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self.device)

    def on_device(self) -> AbstractContextManager[Any]:
        """The context in which this backend's operations run; only CuPy needs one."""
        return _NOWHERE

    def allow_float64(self) -> AbstractContextManager[Any]:
        """A context in which float64 works, for gradient checks; only JAX needs one."""
        return _NOWHERE

    # What the standard lacks ------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to."""

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """Turn ``rule(xp, *arrays)``, a pure elementwise function, into one sweep over memory.

        Args:
            rule: returns an array or a tuple of arrays, each of its arguments' common shape. Its
                arguments are arrays of one shape (or that broadcast to it), 0-d arrays and Python
                numbers.
            donate: positions among the arrays whose memory may be reused, for the first results in
                this order. A donated array must not be read again; keep what is returned.
        """
        xp = self.xp
        return lambda *arrays: rule(xp, *arrays)

    def sweep(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., list[list[Array]]]:
        """``elementwise`` for many arrays at once: what an optimizer does to all parameters.

        Args:
            rule: as for ``elementwise``.
            donate: as for ``elementwise``; the first results take the place of donated columns.

        Returns:
            ``swept(columns, *numbers)``: each column lists arrays, the k-th of all columns having
            one shape, all of a column one dtype. The rule sees a column as one array, and the
            numbers as they are. What it returns is cut into columns again.
        """
        one = self.elementwise(rule, donate)

        def swept(columns: list[list[Array]], *numbers: Any) -> list[list[Array]]:
            shapes = [array.shape for array in columns[0]]
            new = one(*map(self.join, columns), *numbers)
            return [self.split(array, shapes) for array in new]

        return swept

    def join(self, arrays: list[Array]) -> Array:
        """Arrays behind each other, flat; a single one as it is."""
        if len(arrays) == 1:
            return arrays[0]
        return self.xp.concat([self.xp.reshape(array, (-1,)) for array in arrays])

    def split(self, joint: Array, shapes: Sequence[Shape]) -> list[Array]:
        """The way back of ``join``, as views where the library has them."""
        if len(shapes) == 1:
            return [joint]
        parts, start = [], 0
        for shape in shapes:
            stop = start + math.prod(shape)
            parts.append(self.xp.reshape(joint[start:stop], shape))
            start = stop
        return parts

    def compile(self, step: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Make a whole function of arrays one unit, where the library can."""
        return step

    def compiled(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        *,
        wanted: bool | None = None,
        known: bool = False,
    ) -> Callable[..., Any]:
        """``step``, compiled if that is wanted; if nothing is said, as this backend does it.

        Args:
            wanted: True, False, or None to leave it to the backend.
            known: whether the step is known to depend on its arguments alone.
        """
        if wanted is None:
            wanted = self.compiles == "all" or (self.compiles == "known" and known)
        return self.compile(step, donate) if wanted else step

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Array, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Walk along the first axis of ``inputs``, carrying something from step to step.

        Args:
            step: takes the carry and, for each of ``inputs``, what it holds at this step; returns
                the carry after the step and a tuple of arrays to keep.
            carry: what the first step takes.
            inputs: arrays of one length.
            reverse: from the last step to the first.

        Returns:
            The carry after the walk, and the kept arrays, stacked in the order of ``inputs``.
        """
        length = inputs[0].shape[0]
        kept: list[tuple[Array, ...]] = [()] * length
        for t in range(length)[:: -1 if reverse else 1]:
            carry, kept[t] = step(carry, *(one[t, ...] for one in inputs))
        return carry, tuple(map(self.stack, zip(*kept, strict=True)))

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Arrays of one shape along a new first axis."""
        return self.xp.stack(arrays)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        """``array`` with ``updates[k]`` added to row ``indices[k]``, for every k; repeats add up.

        Args:
            array: (rows, ...); donated.
            indices: (n,) integers in [0, rows).
            updates: (n, ...).
        """
        xp = self.xp
        rows = xp.arange(array.shape[0], dtype=indices.dtype, device=self.device)
        chosen = xp.astype(rows[:, None] == indices[None, :], updates.dtype)
        flat = xp.reshape(updates, (updates.shape[0], math.prod(updates.shape[1:])))
        return array + xp.reshape(chosen @ flat, array.shape)

    def erf(self, x: Array) -> Array:
        """The error function, to the precision of ``x``."""
        return erf_by_chebyshev(x, self.xp)

    def counter(self, start: int = 0) -> Any:
        """A step or draw counter: a Python integer, or a 0-d array where counters_on_device."""
        if not self.counters_on_device:
            return start
        return self.xp.asarray(start, dtype=self.xp.int32, device=self.device)

    def counting(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Turn ``rule(xp, *counters)`` into a function of counters, where they are kept."""
        return self.elementwise(rule) if self.counters_on_device else partial(rule, HOST)

    def scalar(self, value: float) -> Any:
        """A number that a step carries: a Python float, or a 0-d array of the library's widest."""
        if not self.counters_on_device:
            return float(value)
        return self.xp.asarray(value, dtype=float, device=self.device)

    def log_softmax(self, x: Array) -> Array:
        """``x - log(sum(exp(x)))`` over the last axis."""
        return log_softmax(x, self.xp)

    def indices(self, count: int) -> Array:
        """0, 1, ... count - 1 as int32, made on the device only once."""
        if count not in self._indices:
            self._indices[count] = self.from_numpy(np.arange(count, dtype=np.int32))
        return self._indices[count]

    def constant(self, values: tuple[float, ...]) -> Array:
        """Numbers that never change as a float32 array; copied to the device only once."""
        if values not in self._constants:
            self._constants[values] = self.from_numpy(np.asarray(values, dtype=np.float32))
        return self._constants[values]

    def random_bits(self, seed: int, draw: Any, shape: Shape) -> Array:
        """Random 32-bit words, the same on every backend for the same (seed, draw, shape).

        Word number i is a hash of (i, seed, draw), so that there is no hidden state, nothing to
        copy from the host, and any draw can be made again: ``mix(mix(i) ^ key)`` with
        ``numerics.mix_bits`` and ``numerics.stream_key``.

        Args:
            seed: 64 bits that name the stream (a network's seed and a layer's name).
            draw: how many draws the stream has seen, from ``counter``.
            shape: of the words, unsigned 32-bit integers (int64 where a library has none).
        """
        xp = self.xp
        low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
        if self.counters_on_device:
            key = self._join(draw, self._word(low), self._word(high))
        else:
            key = self._word(stream_key(draw & 0xFFFFFFFF, low, high, xp))
        index = xp.arange(math.prod(shape), dtype=self._words, device=self.device)
        return xp.reshape(self._hash(index, key), shape)

    def random_mask(self, keep: float, seed: int, draw: Any, shape: Shape) -> Array:
        """Booleans that are true with probability ``keep``, from ``random_bits``."""
        bits = self.random_bits(seed, draw, shape)
        limit = min(round(keep * 2**32), 2**32 - 1)
        return bits < self.xp.asarray(limit, dtype=bits.dtype, device=self.device)

    @property
    def _words(self) -> Any:
        return self.xp.uint32

    def _word(self, value: int) -> Array:
        return self.xp.asarray(value, dtype=self._words, device=self.device)

    def free_memory(self) -> None:
        """Give memory that is cached but unused back to the system."""

    def describe(self) -> str:
        """One line: library, version and device."""
        import importlib.metadata

        version = importlib.metadata.version(self.library)
        return f"{self.name} {version} on {self.device or 'cpu'}"


def _hash_words(xp: Namespace, index: Array, key: Array) -> Array:
    return mix_bits(mix_bits(index, xp) ^ key, xp)


def _join_words(xp: Namespace, draw: Array, low: Array, high: Array) -> Array:
    return stream_key(xp.astype(draw, low.dtype), low, high, xp)


def _host_array(values: Any) -> np.ndarray:
    """Values of any library as a NumPy array."""
    library = type(values).__module__.partition(".")[0]
    if library == "torch":
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    elif library == "cupy":
        return values.get()
    elif library == "array_api_strict":
        import array_api_strict

        values = array_api_strict.from_dlpack(values, device=array_api_strict.Device("CPU_DEVICE"))
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"wanted an array of numbers, got a {type(values).__name__} that NumPy cannot read "
            f"({error}); pass an array, or nested lists of equal length"
        ) from None


def in_plain_floats(array: np.ndarray) -> np.ndarray:
    """Floats that only some libraries know in one that all do: bfloat16, long double."""
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    return array.astype(np.float64) if array.dtype.char == "g" else array


def _as_native_numbers(array: np.ndarray) -> np.ndarray:
    """Refuse what is not a number; put bytes in the order of this machine."""
    array = in_plain_floats(array)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"wanted numbers (floats, integers or booleans), got dtype {array.dtype}; convert the "
            f"data first, for example with .astype('float32')"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
