"""Which devices of JAX a backend has: one, or all of them, over which XLA cuts batches.

On all devices every array lies whole on each of them, but for batches, and for slots of an
optimizer that is shared out. In a compiled step a batch is cut along its first axis, device by
device, and XLA works out what follows: what goes over all samples, such as a gradient of weights or
the mean of a BatchNorm, it adds up over the devices. The step means what it means on one device, so
nothing else has to know of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from xpnn.errors import BackendUnavailable
from xpnn.typing import Array

ALL = "all"
AXIS = "batch"


def devices_of(spec: str | None) -> list[Any]:
    """The devices behind a name such as ``gpu``, ``gpu:1``, ``all`` or ``gpu:all``.

    Raises:
        BackendUnavailable: there are none.
    """
    import jax

    platform, _, number = (spec or "").partition(":")
    if platform == ALL:
        platform, number = "", ALL
    try:
        if number == ALL:
            return list(jax.devices(platform or None))
        return [jax.local_devices(backend=platform or None)[int(number or 0)]]
    except (RuntimeError, ValueError, IndexError):
        raise BackendUnavailable(
            f"JAX has no device {spec!r} here, only {', '.join(names_of_devices())}; "
            f"for an NVIDIA GPU type: pip install 'jax[cuda12]'"
        ) from None


def names_of_devices() -> list[str]:
    """All devices of JAX's default kind, as they stand behind the colon of a spec."""
    import jax

    return [f"{one.platform}:{one.id}" for one in jax.devices()]


def name_of(devices: Any) -> str:
    """A device, or a set of several, as it stands behind the colon of a spec."""
    import jax

    if not isinstance(devices, set):
        own = jax.local_devices(backend=devices.platform)
        return f"{devices.platform}:{own.index(devices)}"
    platform = next(iter(devices)).platform
    if devices == set(jax.devices()):
        return ALL
    if devices == set(jax.devices(platform)):
        return f"{platform}:{ALL}"
    return "+".join(sorted(map(name_of, devices)))


_shared: ContextVar[list[Any] | None] = ContextVar("what a step has shared out", default=None)


@contextmanager
def shared_out_here() -> Iterator[list[Any]]:
    """A context in which a step is traced; what it is given lists the slots that are shared out."""
    found: list[Any] = []
    token = _shared.set(found)
    try:
        yield found
    finally:
        _shared.reset(token)


class Mesh:
    """Several devices side by side.

    Attributes:
        whole: of an array that lies whole on each of them.
        rows: of one whose first axis is cut, a stretch for each.
        is_shared: whether some of them are those of other processes.
        is_simulated: whether a CPU stands for several devices.
    """

    def __init__(self, devices: list[Any]):
        from jax.sharding import Mesh as JaxMesh
        from jax.sharding import NamedSharding, PartitionSpec

        self.count, self.is_simulated = len(devices), devices[0].platform == "cpu"
        self._mesh = JaxMesh(np.asarray(devices), (AXIS,))
        self.whole = NamedSharding(self._mesh, PartitionSpec())
        self.rows = NamedSharding(self._mesh, PartitionSpec(AXIS))
        self.is_shared = not self.whole.is_fully_addressable

    def of_batch(self, array: Any) -> Any:
        """How a batch lies: cut, or, where its rows do not come out even, whole."""
        return self.whole if array.shape[0] % self.count else self.rows

    def of_slot(self, array: Any) -> Any:
        """How a slot lies that is shared out: cut along its first axis that comes out even."""
        from jax.sharding import NamedSharding, PartitionSpec

        for axis, length in enumerate(array.shape):
            if length and length % self.count == 0:
                return NamedSharding(self._mesh, PartitionSpec(*[None] * axis, AXIS))
        return self.whole

    def shared_out(self, slot: Array) -> Array:
        """A slot, of which each device has a part."""
        import jax

        found, noted = jax.lax.with_sharding_constraint(slot, self.of_slot(slot)), _shared.get()
        if noted is not None:
            noted.append(found)
        return found

    def made_whole(self, value: Any) -> Any:
        """An array, whole on each device; a number stays one."""
        import jax

        if not isinstance(value, jax.Array):
            return value
        if not isinstance(value, jax.core.Tracer) and value.is_fully_replicated:
            return value
        return jax.lax.with_sharding_constraint(value, self.whole)

    def placed_as(self, form: Any, value: Any) -> Any:
        """The form of an argument, with where it lies, if that is on all devices."""
        import jax

        place = getattr(value, "sharding", self.whole)
        if place.device_set != self.whole.device_set:
            return form
        return jax.ShapeDtypeStruct(
            form.shape, form.dtype, sharding=place, weak_type=form.weak_type
        )

    def cut(self, array: Array) -> Array:
        """A batch of a step that is traced, cut into the rows of each device; else a whole one.

        Call by call, each operation on rows would be a program of its own that devices wait in.
        """
        import jax

        if isinstance(array, jax.core.Tracer):
            return jax.lax.with_sharding_constraint(array, self.of_batch(array))
        whole = self.made_whole(array)
        return jax.block_until_ready(whole) if self.is_simulated else whole


def put(array: np.ndarray, place: Any) -> Array:
    """A NumPy array on a device or on several, of which other processes may have some."""
    import jax

    with np.errstate(over="ignore"):  # of float64 that float32 cannot hold
        if isinstance(place, jax.Device) or place.is_fully_addressable:
            return jax.device_put(array, place)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])
