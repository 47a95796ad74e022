"""Which devices of JAX a backend has: one, or all of them, over which XLA cuts batches.

On all devices every array lies whole on each of them, but for batches. In a compiled step a batch
is cut along its first axis, device by device, and XLA works out what follows: what goes over all
samples, such as a gradient of weights or the mean of a BatchNorm, it adds up over the devices. The
step means what it means on one device, so nothing else has to know of them.
"""

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
        """How a slot of the optimizer lies: cut along its first axis that comes out even."""
        from jax.sharding import NamedSharding, PartitionSpec

        for axis, length in enumerate(array.shape):
            if length and length % self.count == 0:
                return NamedSharding(self._mesh, PartitionSpec(*[None] * axis, AXIS))
        return self.whole

    def place_of(self, value: Any) -> Any:
        """How an array of all devices lies; whole for all else, which is spread over them."""
        found = getattr(value, "sharding", None)
        return found if found and found.device_set == self.whole.device_set else self.whole

    def cut(self, array: Array) -> Array:
        """A batch of a step that is traced, cut into the rows of each device."""
        import jax

        if not isinstance(array, jax.core.Tracer):
            return array
        return jax.lax.with_sharding_constraint(array, self.of_batch(array))


def put(array: np.ndarray, place: Any) -> Array:
    """A NumPy array on a device or on several, of which other processes may have some."""
    import jax

    with np.errstate(over="ignore"):  # of float64 that float32 cannot hold
        if isinstance(place, jax.Device) or place.is_fully_addressable:
            return jax.device_put(array, place)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])
