"""Backend: the portable version of every operation that the array API standard lacks."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from xpnn.backends.portable.attention import Attention
from xpnn.backends.portable.boundary import Boundary
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.convolution import Convolutions
from xpnn.backends.portable.device_memory import DeviceMemory
from xpnn.backends.portable.pooling import Pooling
from xpnn.backends.portable.random_words import RandomWords
from xpnn.backends.portable.reductions import Reductions
from xpnn.backends.portable.staging import Staging
from xpnn.backends.portable.sums_begun import finish_begun, keep_begun
from xpnn.errors import BackendUnavailable, CompileError
from xpnn.numerics import HOST, erfc_by_chebyshev
from xpnn.typing import Array, Namespace, Shape

OPEN_GROUPS = 16  # of small parameters; all of them are looked at for each parameter


MakeRecorded: TypeAlias = Callable[["Backend"], Callable[..., Any]]
"""Makes a step once more, on the backend that it is given, which records."""


class Backend(Reductions, Convolutions, Pooling, Attention, RandomWords, DeviceMemory, Boundary):
    """One array library on one device.

    Layers do their math on ``xp``, the library under the names of the array API standard. What the
    standard lacks is a method here: written once in portable form, overridden where a library does
    it better, and always held to the portable version by ``tests/backends/test_contract.py``.

    Attributes:
        name: what a user types, such as ``"numpy"``.
        library: the package to install, such as ``"array-api-strict"``.
        install: the line that installs it.
        array_type: the class of the library's arrays, as ``"module:name"``: it is looked up only
            where the module is imported already.
        xp: the array namespace.
        device: the library's own device object, or None where it has only one.
        deterministic: whether the same step on the same device gives the same bits every time.
        tf32: whether matrix products of float32 may be worked out in TF32 on a GPU; None leaves it
            to the library's own switch.
        counters_on_device: whether step counts and dropout draws are 0-d arrays (so that a compiled
            step stays right when they change) rather than Python integers.
        joint_size: parameters that have up to so many elements together are joined and updated in
            one sweep, as a call costs more than the work in it. 0 where calls cost nothing.
        side_by_side: windows of up to so many entries in all are copied side by side, so that one
            product takes the place of many. 0 where products by themselves cost nothing.
        stacks: a product that adds up over very many rows is cut into up to so many, one for each
            processor of a GPU. 1 where the library does so itself.
        positions_first: whether images lie positions first, as the portable products of windows
            want it, rather than batch first, as libraries that convolve do.
        attention_from: how many queries or keys there have to be for a training step to work by
            ``attention``, which keeps no weights; with fewer, to keep them is faster.
        devices: over how many devices a step cuts its batch.
        compiles: which functions ``compiled`` compiles if nothing else is said: "all", those that
            are "known" to be pure, or "none".

    >>> from xpnn import get_backend
    >>> backend = get_backend("numpy")
    >>> backend.asarray([1, 2], "float32"), backend.name, backend.library
    (array([1., 2.], dtype=float32), 'numpy', 'numpy')
    """

    library: ClassVar[str]
    install: ClassVar[str]
    counters_on_device: ClassVar[bool] = False
    joint_size: ClassVar[float] = 0
    side_by_side: int = 0
    stacks: int = 1
    devices: int = 1
    compiles: Literal["all", "known", "none"] = "none"

    deterministic: bool = False
    tf32: bool | None = None

    def __init__(self, device: str | None = None):
        self.xp = self.load_namespace()
        self.device = self.resolve_device(device)
        self._constants: dict[tuple[tuple[float, ...], str], Array] = {}
        self._indices: dict[int, Array] = {}
        self.spec = self.name if device is None else f"{self.name}:{device}"

    def __repr__(self) -> str:
        deterministic = ", deterministic" if self.deterministic else ""
        tf32 = "" if self.tf32 is None else f", tf32={self.tf32}"
        return f"<backend {self.spec}{deterministic}{tf32}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, or pickled and read again in another process: the same backend, opened there."""
        from xpnn.backends import get_backend

        deterministic, tf32 = self.deterministic, self.tf32
        return partial(get_backend, self.spec, deterministic=deterministic, tf32=tf32), ()

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

    def describe_devices(self) -> list[str]:
        """The devices that this library sees, one line each."""
        return ["cpu"]

    def allow_float64(self) -> AbstractContextManager[Any]:
        """A context in which float64 works, for gradient checks; only JAX needs one."""
        return nullcontext()

    def overflowing(self) -> AbstractContextManager[Any]:
        """A context in which infinities arise without a warning; what runs on NumPy needs one."""
        return nullcontext()

    def missing(self) -> str | None:
        """What would make it faster and is not there or not used, and what to do, if anything."""
        return None

    # Feeding it ---------------------------------------------------------------------------------

    @property
    def on_host(self) -> bool:
        """Whether its arrays lie in the host's memory, where NumPy reads them as they are."""
        return False

    def staging(self) -> Staging:
        """A way for batches from the host to the device, beside the steps that compute."""
        return Staging(self)

    def on_all_devices(self) -> "Backend":
        """This backend on all devices over which its library cuts batches; itself for one."""
        return self

    def processes(self) -> Communicator | None:
        """The processes over whose devices the library itself cuts batches; None for this alone."""
        return None

    def across_devices(self, array: Array) -> Array:
        """A batch in a step, its rows cut over the devices of this backend, if it has several."""
        return array

    def shared_out(self, slot: Array) -> Array:
        """A slot of the optimizer, made in a compiled step, of which each device keeps a part."""
        return slot

    def slot_between_steps(self, slot: Any, is_shared: bool) -> Any:
        """The same where no step is traced: in parts, or whole on each device; numbers stay."""
        return slot

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

    def all_sum(
        self, array: Array, communicator: Communicator, behind: Array | None = None
    ) -> Array:
        """The sum of the arrays of all processes, which a step that is compiled may hold.

        Args:
            behind: the sum before this one, or the token of one that was begun, if there was one in
                this step: all processes have to add up in one order.
        """
        return communicator.all_sum(array)

    def start_all_sum(
        self,
        array: Array,
        communicator: Communicator,
        number: int,
        behind: Array | None = None,
    ) -> Array:
        """Begin with a sum, beside what comes next.

        Args:
            number: of the sum, among those that are begun and not finished.
            behind: the sum before this one, or what beginning with it has returned.

        Returns:
            A token, there for the order of calls alone: ``finish_all_sum`` comes behind it.
        """
        keep_begun(communicator, number, communicator.start_all_sum(array))
        return self.xp.empty((1,), dtype=self.xp.uint8)

    def finish_all_sum(
        self, token: Array, communicator: Communicator, number: int, shape: Shape, dtype: Any
    ) -> Array:
        """The sum that was begun under that number, of such arrays; it is waited for."""
        return finish_begun(communicator, number)

    def joint_groups(self, arrays: Mapping[str, Array]) -> list[list[str]]:
        """The names of arrays of one dtype, in groups that are to be joined."""
        return self._grouped(arrays, self.joint_size)

    @staticmethod
    def _grouped(arrays: Mapping[str, Array], joint_size: float) -> list[list[str]]:
        """Each array goes into the first of the last few open groups that has room for it."""
        groups: list[list[str]] = []
        rooms: dict[int, float] = {}  # how many elements each open group has room for
        for name, array in arrays.items():
            size = math.prod(array.shape)
            number = next((k for k, room in rooms.items() if size <= room), len(groups))
            if number == len(groups):
                groups.append([])
                rooms[number] = joint_size
            groups[number].append(name)
            rooms[number] -= size
            if rooms[number] <= 0:
                del rooms[number]
            elif len(rooms) > OPEN_GROUPS:
                del rooms[next(iter(rooms))]
        return groups

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

    def compile(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
    ) -> Callable[..., Any]:
        """Make a whole function of arrays one unit, where the library can; see ``compiled``.

        Raises:
            CompileError: it is required, and the library cannot; of some steps this is known only
                when they are called.
        """
        if required:
            raise CompileError(
                f"compile=True asked for steps that are compiled, and backend {self.name!r} has "
                f"nothing that compiles; leave compile=True out, or take another backend"
            )
        return step

    def compiled(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        *,
        held: Sequence[int] = (),
        wanted: bool | None = None,
        known: bool = False,
    ) -> Callable[..., Any]:
        """``step``, compiled if that is wanted; if nothing is said, as this backend does it.

        Args:
            donate: positions of arguments that may be written over. The first results take their
                place, in their order.
            held: positions of arguments that mostly are the same arrays from call to call.
            wanted: True, False, or None to leave it to the backend. What cannot be compiled then
                runs call by call with a CompileWarning; with True, it is a CompileError.
            known: whether the step is known to depend on its arguments alone.
        """
        required = wanted is True
        if wanted is None:
            wanted = self.compiles == "all" or (self.compiles == "known" and known)
        return self.compile(step, donate, held, required) if wanted else step

    def compile_fused(
        self,
        step: Callable[..., Any],
        recorded: MakeRecorded,
        donate: Sequence[int] = (),
    ) -> Callable[..., Any]:
        """``step`` as one unit in which runs of calls are one kernel, where the backend makes such.

        Args:
            recorded: makes the same step on the ``Recorder`` that it is given.
            donate: as for ``compiled``.

        Raises:
            CompileError: it does not, or, when it is called, the step cannot be recorded.
        """
        raise CompileError(
            f"compile='fused' makes kernels for CUDA, and backend {self.name!r} runs none; write "
            f"compile=True, or take backend='cupy'"
        )

    def barrier(self, *arrays: Array) -> tuple[Array, ...]:
        """The same arrays, for a compiler others, and none of them there before all of them are.

        What is worked out from them a second time is so worked out a second time, and later.
        """
        return arrays

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Any, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Walk along the first axis of ``inputs``, carrying something from step to step.

        Args:
            step: takes the carry and, for each of ``inputs``, what it holds at this step; returns
                the carry after the step and a tuple of arrays to keep.
            carry: what the first step takes, a tuple of arrays or of dictionaries of them.
            inputs: arrays of one length.
            reverse: from the last step to the first.

        Returns:
            The carry after the walk, and the kept arrays, stacked in the order of ``inputs``.
        """
        length = inputs[0].shape[0]
        kept: list[tuple[Array, ...]] = [()] * length
        for t in range(length)[:: -1 if reverse else 1]:
            carry, kept[t] = step(carry, *(one[t, ...] for one in inputs))
        return carry, tuple(map(self.xp.stack, zip(*kept, strict=True)))

    def stack(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Arrays of one shape along a new axis, to read: it may be the memory that they lie in."""
        return self.xp.stack(arrays, axis=axis)

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

    def erfc(self, x: Array) -> Array:
        """1 minus the error function, to the precision of ``x``, in its tail, too."""
        return erfc_by_chebyshev(x, self.xp)

    def counter(self, start: int = 0) -> Any:
        """A step or draw counter: a Python integer, or a 0-d array where counters_on_device."""
        if not self.counters_on_device:
            return start
        with self.on_device():
            return self.xp.asarray(start, dtype=self.xp.int32, device=self.device)

    def counting(self, rule: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Turn ``rule(xp, *counters)`` into a function of counters, where they are kept."""
        return self.elementwise(rule, donate) if self.counters_on_device else partial(rule, HOST)

    def scalar(self, value: float) -> Any:
        """A number that a step carries: a Python float, or a 0-d array of the library's widest."""
        if not self.counters_on_device:
            return float(value)
        with self.on_device():
            return self.xp.asarray(value, dtype=float, device=self.device)

    def indices(self, count: int) -> Array:
        """0, 1, ... count - 1 as int32, made on the device only once."""
        if count not in self._indices:
            self._indices[count] = self.for_all_threads(np.arange(count, dtype=np.int32))
        return self._indices[count]

    def constant(self, values: tuple[float, ...], dtype: str = "float32") -> Array:
        """Numbers that never change as an array; copied to the device only once."""
        if (values, dtype) not in self._constants:
            self._constants[values, dtype] = self.for_all_threads(np.asarray(values, dtype=dtype))
        return self._constants[values, dtype]

    def describe(self) -> str:
        """One line: library, version and device."""
        import importlib.metadata

        version = importlib.metadata.version(self.library)
        return f"{self.name} {version} on {self.device or 'cpu'}"
