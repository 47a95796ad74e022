"""JAX: read-only arrays and compiled training steps."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from xpnn.backends.base import Backend
from xpnn.errors import BackendUnavailable
from xpnn.typing import Array, Namespace


class JaxBackend(Backend):
    """Arrays of JAX on its default device, or on ``cpu``, ``gpu``, ``tpu``, ``gpu:1``, ...

    JAX keeps floats in 32 bits unless ``jax_enable_x64`` is set, and so does this backend.
    """

    name = "jax"
    library = "jax"
    install = "pip install jax"
    counters_on_device = True
    compiles = "all"

    def load_namespace(self) -> Namespace:
        import jax.numpy

        return jax.numpy

    def resolve_device(self, device: str | None) -> Any:
        import jax

        platform, _, number = (device or "").partition(":")
        try:
            devices = jax.devices(platform or None)
            return devices[int(number or 0)]
        except (RuntimeError, ValueError, IndexError):
            raise BackendUnavailable(
                f"JAX has no device {device!r} here, only {', '.join(self.describe_devices())}; "
                f"for an NVIDIA GPU type: pip install 'jax[cuda12]'"
            ) from None

    def describe_devices(self) -> list[str]:
        import jax

        return [f"{d.platform}:{d.id}" for d in jax.devices()]

    def owns(self, array: Any) -> bool:
        import jax

        if isinstance(array, jax.core.Tracer):
            return True
        return isinstance(array, jax.Array) and array.devices() == {self.device}

    def from_numpy(self, array: np.ndarray) -> Array:
        import jax

        return jax.device_put(array, self.device)

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

    def constant(self, values: tuple[float, ...]) -> Array:
        return self.xp.asarray(values, dtype=self.xp.float32)  # kept, it could be a tracer

    def synchronize(self) -> None:
        import jax

        jax.block_until_ready(jax.device_put(0.0, self.device) + 0.0)

    def elementwise(
        self, rule: Callable[..., Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """One compiled computation; inside a compiled step, simply traced."""
        import jax

        return jax.jit(lambda *arrays: rule(self.xp, *arrays))

    def compile(self, step: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        import jax

        return jax.jit(step, donate_argnums=tuple(donate))

    def scan(
        self,
        step: Callable[..., Any],
        carry: tuple[Array, ...],
        inputs: Sequence[Array],
        reverse: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """A loop inside of a compiled step, which unrolled would compile for minutes."""
        import jax

        if not any(isinstance(one, jax.core.Tracer) for one in (*carry, *inputs)):
            return super().scan(step, carry, inputs, reverse)
        return jax.lax.scan(lambda c, now: step(c, *now), carry, tuple(inputs), reverse=reverse)

    def scatter_add(self, array: Array, indices: Array, updates: Array) -> Array:
        return array.at[indices].add(updates)

    def erf(self, x: Array) -> Array:
        import jax

        return jax.scipy.special.erf(x)

    def free_memory(self) -> None:
        import jax

        jax.clear_caches()
