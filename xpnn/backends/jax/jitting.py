"""A training step as one computation of XLA."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.jax.devices import Mesh, shared_out_here
from xpnn.backends.portable.compiled_step import CompiledStep


class JittedStep(CompiledStep):
    """A pure step, jitted. What there is for each form of its arguments, JAX itself keeps.

    Args:
        mesh: of several devices, on each of which its results are to lie whole, but for those that
            it has shared out; None for one.

    Attributes:
        lower: as of what ``jax.jit`` returns: the program of XLA, for arguments of a form.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        donate: Sequence[int] = (),
        required: bool = False,
        mesh: Mesh | None = None,
    ):
        import jax

        super().__init__(step, donate, required)
        self._mesh = mesh
        laid = step if mesh is None else _laid(step, mesh)
        self._run = jax.jit(laid, donate_argnums=tuple(donate))
        self._waits = mesh is not None and mesh.is_simulated
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
                found = self._run(*arguments)
                return self._done(found) if self._waits else found
            except self._refused as reason:
                self.refuse(reason)
        return self.call_by_call(arguments)

    def call_by_call(self, arguments: tuple[Any, ...]) -> Any:
        """What is written over lies whole then: XLA would cut whatever is made of parts."""
        import jax

        if self._mesh is not None:
            arguments = tuple(
                jax.tree.map(self._mesh.made_whole, one) if k in self.donate else one
                for k, one in enumerate(arguments)
            )
        return super().call_by_call(arguments)

    def _done(self, found: Any) -> Any:
        """The results, once they are there.

        Devices of a CPU share their threads: those of one step may wait for one another while
        threads that these need are kept by the next.
        """
        import jax

        return jax.block_until_ready(found)

    def try_out(self, take: Callable[[], Any], arguments: Callable[[], tuple[Any, ...]]) -> Any:
        """Look at the shapes of arguments, which are enough; a step that is refused is taken."""
        import jax

        given = arguments()
        try:
            if self.refusal is None:
                jax.eval_shape(self.step, *given)
        except self._refused as reason:
            self.refuse(reason)
        if self.refusal is not None:
            take()
            return None
        forms = jax.tree.map(jax.api_util.shaped_abstractify, given)
        if self._mesh is None:
            return forms
        return tuple(
            jax.tree.map(self._mesh.placed_as, form, one) if k in self.donate else form
            for k, (form, one) in enumerate(zip(forms, given, strict=True))
        )

    def planned_bytes(self, small: Any, large: Any, steps: float, last: int) -> int | None:
        """What XLA says of the step, compiled for arguments of that size and not run."""
        import jax

        if small is None or large is None:
            return None

        def form(one: Any, other: Any) -> Any:
            pairs = zip(one.shape, other.shape, strict=True)
            shape = [last + round((last - first) * steps) for first, last in pairs]
            return other.update(shape=shape)

        found = self.lower(*jax.tree.map(form, small, large)).compile().memory_analysis()
        return int(
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + found.temp_size_in_bytes
        )


def _laid(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The step, whose results lie whole on each device, but for those that it has shared out."""
    import jax

    @functools.wraps(step)
    def laid(*arguments: Any) -> Any:
        with shared_out_here() as shared:
            found = step(*arguments)
        parts = {id(one) for one in shared}
        return jax.tree.map(lambda one: one if id(one) in parts else mesh.made_whole(one), found)

    return laid
