"""A training step as one computation of XLA."""

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.portable.compiled_step import CompiledStep


class JittedStep(CompiledStep):
    """A pure step, jitted. What there is for each form of its arguments, JAX itself keeps.

    Attributes:
        lower: as of what ``jax.jit`` returns: the program of XLA, for arguments of a form.
    """

    def __init__(
        self, step: Callable[..., Any], donate: Sequence[int] = (), required: bool = False
    ):
        import jax

        super().__init__(step, donate, required)
        self._run = jax.jit(step, donate_argnums=tuple(donate))
        self.lower = self._run.lower
        self._refused = (  # what tracers raise where a value is wanted on the host
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
            jax.errors.TracerIntegerConversionError,
            jax.errors.NonConcreteBooleanIndexError,
        )

    def __call__(self, *arguments: Any) -> Any:
        if self.refusal is None:
            try:
                return self._run(*arguments)
            except self._refused as reason:
                self.refuse(reason)
        return self.call_by_call(arguments)
