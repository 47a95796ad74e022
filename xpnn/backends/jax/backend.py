"""JAX: read-only arrays and compiled training steps."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Unpack

import numpy as np

from xpnn.backends.jax import attention, convolution
from xpnn.backends.jax.devices import Mesh, devices_of, name_of, names_of_devices, put
from xpnn.backends.jax.jitting import JittedStep
from xpnn.backends.jax.processes import JaxProcesses
from xpnn.backends.jax.staging import CutStaging
from xpnn.backends.portable.attention import Scoring, suits_cudnn
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.boundary import CPU, CUDA, read_in_place
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.portable.convolution import over_parts
from xpnn.backends.portable.packed_keys import Packer, Packing
from xpnn.backends.portable.staging import Staging
from xpnn.backends.portable.windows import Slide
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array, Namespace


class JaxBackend(Backend):
    """Arrays of JAX on its default device, or on ``cpu``, ``gpu``, ``tpu``, ``gpu:1``, ``all``.

    JAX keeps floats in 32 bits unless ``jax_enable_x64`` is set, and so does this backend.

    Attributes:
        first: the device, or the first of all that this process has.
        mesh: of all devices, where there are several; None for one.
    """

    name = "jax"
    library = "jax"
    install = "pip install jax"
    array_type = "jax:Array"
    counters_on_device = True
    compiles = "all"
    attention_from = 512  # measured on a CPU
    positions_first = False

    def __init__(self, device: str | None = None):
        super().__init__(device)
        self._packer = Packer(self)

    def load_namespace(self) -> Namespace:
        import jax.numpy

        return jax.numpy

    def resolve_device(self, device: str | None) -> Any:
        import jax

        devices = devices_of(device)
        here = jax.process_index()
        self.first = next((one for one in devices if one.process_index == here), devices[0])
        self._devices = set(devices)
        self.devices = len(devices)
        self.mesh = Mesh(devices) if len(devices) > 1 else None
        self._plain = type(jax.device_put(0.0, self.first))
        self._only_device = self.first.platform == "cpu" and len(jax.devices()) == 1
        return self.first if self.mesh is None else self.mesh.whole

    def describe_devices(self) -> list[str]:
        return names_of_devices()

    def owns(self, array: Any) -> bool:
        if type(array) is self._plain:  # the common case, as jax.Array is slow to ask
            return self._only_device or array.devices() == self._devices
        import jax

        return isinstance(array, jax.core.Tracer)

    @classmethod
    def written_as(cls, array: str, dtype: str) -> str:
        return super().written_as(array, dtype.replace("64", "32"))  # what it has unless told

    @classmethod
    def device_of(cls, array: Any) -> Any:
        import jax

        if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
            return None
        devices = array.devices()
        return next(iter(devices)) if len(devices) == 1 else devices

    @classmethod
    def device_name(cls, device: Any) -> str:
        return name_of(getattr(device, "device_set", device))

    @classmethod
    def spec_of(cls, array: Any) -> str:
        import jax

        return cls.name if cls.device_of(array) == jax.devices()[0] else super().spec_of(array)

    def _check_device(self, values: Any) -> None:
        """On all devices, arrays are taken from each of them."""
        found = self.device_of(values)
        found = found if isinstance(found, set) else {found}
        if self.mesh is None or not found <= {None, *self._devices}:
            super()._check_device(values)

    @classmethod
    def to_host(cls, array: Any) -> Any:
        """All processes have to ask for what lies in parts on their devices."""
        if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
            return array
        from jax.experimental.multihost_utils import process_allgather

        return process_allgather(array, tiled=True)

    def read_in_place(self, values: Any) -> Array | None:
        """A copy, which is waited for: JAX counts on arrays that never change, others' may."""
        import jax

        if self.mesh is not None:
            here = isinstance(values, jax.Array) and self.device.is_fully_addressable
            return jax.device_put(values, self.device) if here else None
        if isinstance(values, np.ndarray):
            return None
        on_cpu = self.first.platform == "cpu"
        device = (CPU, 0) if on_cpu else (CUDA, self.first.local_hardware_id)
        with jax.ensure_compile_time_eval():  # at once, also while a step is traced
            shared = read_in_place(values, jax.numpy.from_dlpack, device)
            return None if shared is None else jax.block_until_ready(shared.copy())

    def move(self, values: Any, dtype: str | None = None) -> Array:
        import jax

        if isinstance(values, jax.Array):  # JAX moves nothing between processes
            is_of_others = not getattr(values, "is_fully_addressable", True)
            if is_of_others or (self.mesh is not None and self.mesh.is_shared):
                values = put(np.asarray(self.to_host(values)), self.device)
        return super().move(values, dtype)

    def from_others(self, array: np.ndarray) -> Array:
        return self.from_numpy(array.copy())

    def copied(self, values: Any, dtype: str | None = None) -> Array:
        return self.asarray(values, dtype)  # it never changes

    def shares_memory(self, one: Array, other: Array) -> bool:
        return False

    def on_device(self) -> AbstractContextManager[Any]:
        import jax

        if self.tf32 is None:
            return super().on_device()
        return jax.default_matmul_precision("tensorfloat32" if self.tf32 else "highest")

    @property
    def on_host(self) -> bool:
        return bool(self.first.platform == "cpu")

    def from_numpy(self, array: np.ndarray) -> Array:
        return put(array, self.device)

    def dtype(self, name: str) -> Any:
        import jax

        found = super().dtype(name)
        if jax.dtypes.canonicalize_dtype(found) != found:
            raise BackendUnavailable(
                f"JAX keeps 32 bits unless told otherwise, and {name} was asked for; call "
                f"jax.config.update('jax_enable_x64', True) before anything else"
            )
        return found

    def allow_float64(self) -> AbstractContextManager[Any]:
        import jax

        return jax.enable_x64(True)

    def indices(self, count: int) -> Array:
        return self.xp.arange(count, dtype=self.xp.int32)  # kept, it could be a tracer

    def constant(self, values: tuple[float, ...], dtype: str = "float32") -> Array:
        return self.xp.asarray(values, dtype=dtype)  # kept, it could be a tracer

    def staging(self) -> Staging:
        return Staging(self) if self.mesh is None else CutStaging(self, self.mesh)

    def on_all_devices(self) -> "Backend":
        import jax

        from xpnn.backends import get_backend

        kind = self.first.platform
        if self.mesh is not None or len(jax.devices(kind)) == 1:
            return self
        spec = "jax:all" if kind == jax.devices()[0].platform else f"jax:{kind}:all"
        return get_backend(spec, deterministic=self.deterministic, tf32=self.tf32)

    def processes(self) -> Communicator | None:
        return _processes() if self.mesh is not None and self.mesh.is_shared else None

    def across_devices(self, array: Array) -> Array:
        return array if self.mesh is None else self.mesh.cut(array)

    def shared_out(self, slot: Array) -> Array:
        import jax

        traced = isinstance(slot, jax.core.Tracer)
        return self.mesh.shared_out(slot) if self.mesh is not None and traced else slot

    def slot_between_steps(self, slot: Any, is_shared: bool) -> Any:
        import jax

        if self.mesh is None or not isinstance(slot, jax.Array):
            return slot
        return self.mesh.shared_out(slot) if is_shared else self.mesh.made_whole(slot)

    def synchronize(self) -> None:
        import jax

        jax.block_until_ready(self.zeros((), "float32") + 0.0)

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """One computation, compiled once for a rule; inside a compiled step, simply traced."""
        import jax

        return partial(jax.jit(rule, static_argnums=0), self.xp)

    def compile(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        held: Sequence[int] = (),
        required: bool = False,
    ) -> Callable[..., Any]:
        return JittedStep(step, donate, required, self.mesh)

    def barrier(self, *arrays: Array) -> tuple[Array, ...]:
        import jax

        return tuple(jax.lax.optimization_barrier(arrays))

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Any, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[Any, tuple[Array, ...]]:
        """A loop inside of a compiled step, which unrolled would compile for minutes."""
        import jax

        if not any(isinstance(one, jax.core.Tracer) for one in (*carry, *inputs)):
            return super().scan(step, carry, inputs, reverse)
        return jax.lax.scan(lambda c, now: step(c, *now), carry, tuple(inputs), reverse=reverse)

    def sum_to_features(self, x: Array) -> Array:
        """Of a batch on several devices, positions first: they are then sent features alone."""
        if self.mesh is None:
            return super().sum_to_features(x)
        return self.xp.sum(self.xp.sum(x, axis=tuple(range(1, x.ndim - 1))), axis=0)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        if self.deterministic and self.first.platform != "cpu":
            return _add_in_order(array, indices, updates)
        return array.at[indices].add(updates)

    def convolve(
        self,
        Z: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self._by_planes(slides):
            S = convolution.convolve_planes(Z, W, slides, groups, self)
        else:
            S = convolution.convolve(Z, W, slides, groups)
        return S if bias is None else S + bias

    def convolve_input_gradient(
        self,
        delta: Array,
        W: Array,
        slides: Sequence[Slide],
        groups: int = 1,
        bias: Array | None = None,
    ) -> Array:
        if self._by_planes(slides):
            dZ = convolution.planes_input_gradient(delta, W, slides, groups, self)
        else:
            dZ = convolution.input_gradient(delta, W, slides, groups)
        return dZ if bias is None else dZ + bias

    def convolve_kernel_gradient(
        self, Z: Array, delta: Array, slides: Sequence[Slide], groups: int = 1
    ) -> Array:
        if self._by_planes(slides):
            return convolution.planes_kernel_gradient(Z, delta, slides, groups, self)

        def gradient(Z: Array, delta: Array) -> Array:
            return convolution.kernel_gradient(Z, delta, slides, groups)

        if not self.on_host:
            return gradient(Z, delta)
        return over_parts(gradient, Z, delta, convolution.MOST_ROWS, self.xp)

    def _by_planes(self, slides: Sequence[Slide]) -> bool:
        """Whether a convolution goes plane by plane."""
        return self.on_host and len(slides) == 3

    def prefers_weights(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> bool:
        if self._cudnn_attends(Q, K, V, scoring):
            return False
        return super().prefers_weights(Q, K, V, **scoring)

    def _cudnn_attends(self, Q: Array, K: Array, V: Array, scoring: Scoring) -> bool:
        """Not where sums have to have one order, as JAX does not hand that on."""
        if self.deterministic or not suits_cudnn([Q, K, V], scoring):
            return False
        return attention.has_cudnn(self.first)

    def _packing(self, Q: Array, scoring: Scoring) -> Packing | None:
        return self._packer.packing(scoring.get("mask"), Q.shape[2])

    def attention(
        self,
        Q: Array,
        K: Array,
        V: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Any]:
        if not self._cudnn_attends(Q, K, V, scoring):
            return super().attention(Q, K, V, **scoring)
        scale, causal = scoring["scale"], scoring.get("causal", False)
        return attention.attention(Q, K, V, scale, causal, self._packing(Q, scoring))

    def attention_gradients(
        self,
        Q: Array,
        K: Array,
        V: Array,
        A: Array,
        statistics: Any,
        dA: Array,
        **scoring: Unpack[Scoring],
    ) -> tuple[Array, Array, Array]:
        if not self._cudnn_attends(Q, K, V, scoring):
            return super().attention_gradients(Q, K, V, A, statistics, dA, **scoring)
        return attention.attention_gradients(statistics, dA, self._packing(Q, scoring))

    def erfc(self, x: Array) -> Array:
        import jax

        return jax.scipy.special.erfc(x)

    def has_room_for(self, nbytes: int) -> bool:
        """Over several devices data stay on the host: each is sent its rows of a batch alone."""
        return self.mesh is None

    def free_bytes(self) -> int | None:
        stats = self.first.memory_stats()  # None on the CPU
        if not stats or "bytes_limit" not in stats:
            return super().free_bytes()
        return int(stats["bytes_limit"] - stats["bytes_in_use"])

    def ran_out_of_memory(self, error: BaseException) -> bool:
        return "RESOURCE_EXHAUSTED" in str(error) or super().ran_out_of_memory(error)

    @contextmanager
    def memory_watched(self) -> Iterator[Callable[[], int]]:
        """Of steps that are not compiled: arrays that are there when it is asked."""
        import jax

        def used() -> int:
            return sum(array.nbytes for array in jax.live_arrays())

        before = used()
        yield lambda: max(used() - before, 0)

    def free_memory(self) -> None:
        import jax

        jax.clear_caches()


@functools.cache
def _processes() -> JaxProcesses:
    return JaxProcesses()


def _add_in_order(array: Array, indices: Array, updates: Array) -> Array:
    """Updates sorted by their row and summed run by run, so that each row is added to once."""
    import jax
    import jax.numpy as jnp

    count = indices.shape[0]
    if count == 0:
        return array
    order = jnp.argsort(indices, stable=True)
    rows, updates = indices[order], updates[order]
    changes, edge = rows[1:] != rows[:-1], jnp.ones(1, dtype=bool)
    begins = jnp.concatenate([edge, changes]).reshape(-1, *[1] * (updates.ndim - 1))

    def add(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        return one[0] | two[0], jnp.where(two[0], two[1], one[1] + two[1])

    _, sums = jax.lax.associative_scan(add, (begins, updates))
    nowhere = array.shape[0] + jnp.arange(count, dtype=rows.dtype)  # a row of its own for each
    last = jnp.where(jnp.concatenate([changes, edge]), rows, nowhere)
    return array.at[last].add(sums, mode="drop", unique_indices=True)
