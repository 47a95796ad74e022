"""A training step as one computation of XLA."""

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.jax.devices import Mesh
from xpnn.backends.portable.compiled_step import CompiledStep


class JittedStep(CompiledStep):
    """A pure step, jitted. What there is for each form of its arguments, JAX itself keeps.

    Args:
        mesh: of several devices; None for one. What takes the place of an argument lies as that
            did when the step was first called, all else whole on each of them.

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
        self._mesh, self._places = mesh, list[Any]()  # of what takes the place of an argument
        self._run = jax.jit(step if mesh is None else self._laid, donate_argnums=tuple(donate))
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
            self._see_places(arguments)
            try:
                found = self._run(*arguments)
                return self._done(found) if self._waits else found
            except self._refused as reason:
                self.refuse(reason)
        return self.call_by_call(arguments)

    def _see_places(self, arguments: tuple[Any, ...]) -> None:
        """Where arguments lie whose places are taken; those of the first call count."""
        import jax

        if self._mesh is not None and not self._places:
            own = [arguments[k] for k in sorted(self.donate)]
            self._places = jax.tree.map(self._mesh.place_of, own)

    def _laid(self, *arguments: Any) -> Any:
        """What the step returns, laid where it belongs."""
        import jax

        assert self._mesh is not None
        laid, found = jax.lax.with_sharding_constraint, self.step(*arguments)
        count = len(self._places)
        if not count or not isinstance(found, tuple):
            return laid(found, self._mesh.whole)
        return *laid(found[:count], tuple(self._places)), *laid(found[count:], self._mesh.whole)

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
        self._see_places(given)
        forms = jax.tree.map(jax.api_util.shaped_abstractify, given)
        for k, places in zip(sorted(self.donate), self._places, strict=False):
            forms = (*forms[:k], jax.tree.map(_placed, forms[k], places), *forms[k + 1 :])
        return forms

    def planned_bytes(self, small: Any, large: Any, steps: float, last: int) -> int | None:
        """What XLA says of the step, compiled for arguments of that size and not run."""
        import jax

        if small is None or large is None:
            return None

        def form(one: Any, other: Any) -> Any:
            pairs = zip(one.shape, other.shape, strict=True)
            shape = [last + round((last - first) * steps) for first, last in pairs]
            return other.update(shape=shape)

        self._see_places(large)
        found = self.lower(*jax.tree.map(form, small, large)).compile().memory_analysis()
        return int(
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + found.temp_size_in_bytes
        )


def _placed(form: Any, place: Any) -> Any:
    """The form of an array that lies there."""
    import jax

    return jax.ShapeDtypeStruct(form.shape, form.dtype, sharding=place, weak_type=form.weak_type)
