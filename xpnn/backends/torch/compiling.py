"""A training step as one unit of PyTorch: traced to a graph of its operations, then compiled.

``torch.compile`` reads Python, and a step of layers is much Python. So the step is run once on
stand-ins (``make_fx``), which leaves a flat graph of tensor operations, and that is compiled.
"""

from collections.abc import Callable, Iterable
from typing import Any

from xpnn.backends.portable.compiled_step import CompiledStep, NotCompilable, successors
from xpnn.trees import Structure


class TracedStep(CompiledStep):
    """A pure step of nested dicts and tuples of tensors and numbers, compiled once for each form.

    Python numbers, such as counters, go through the graph as 0-d tensors and come back as numbers.
    """

    def make(self, arguments: tuple[Any, ...]) -> "CompiledGraph":
        return CompiledGraph(self.step, arguments, self.donate)

    def try_out(self, take: Callable[[], Any], arguments: Callable[[], tuple[Any, ...]]) -> None:
        """Take the step call by call, as it is when it is traced: the graph takes less."""
        self.call_by_call(arguments())


def _traced(function: Callable[..., Any], tensors: list[Any]) -> Any:
    """The graph of what the function does with tensors.

    Raises:
        NotCompilable: it reads a value on the host, which the graph would keep for ever.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.overrides import TorchFunctionMode

    kind = torch.Tensor
    reads = {kind.item, kind.tolist, kind.numpy, kind.__array__, kind.__dlpack__, kind.__format__}
    reads |= {kind.__bool__, kind.__int__, kind.__float__, kind.__complex__, kind.__index__}

    class RefusingReads(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, called: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if called in reads:
                raise NotCompilable(f"a value is read on the host, by {called.__name__}")
            return called(*args, **(kwargs or {}))

    def watched(*given: Any) -> Any:
        with RefusingReads():
            return function(*given)

    try:
        return make_fx(watched)(*tensors)
    except RuntimeError as error:  # which has no class of its own
        if "get value out of a tracing tensor" not in str(error):
            raise
        raise NotCompilable("a value is read on the host") from error


class CompiledGraph:
    """The step, traced and compiled for arguments of one form."""

    def __init__(self, step: Callable[..., Any], arguments: tuple[Any, ...], donate: Iterable[int]):
        import torch

        form = self.form = Structure(arguments)
        leaves = form.flatten(arguments)
        self.form_key = [_known(leaf) for leaf in leaves]
        self._fixed = [None if _varies(leaf) else leaf for leaf in leaves]
        self._varying = [k for k, leaf in enumerate(leaves) if _varies(leaf)]
        self._loaded = self._tensors_of(leaves)

        def flat(*given: Any) -> list[Any]:
            filled = list(self._fixed)
            for k, tensor in zip(self._varying, given, strict=True):
                filled[k] = tensor
            results = (step(*form.rebuild(filled)),)
            self.result_form = Structure(results)
            outputs = self.result_form.flatten(results)
            self._result = [None if isinstance(one, torch.Tensor) else one for one in outputs]
            self._tensors = [k for k, one in enumerate(outputs) if isinstance(one, torch.Tensor)]
            return [outputs[k] for k in self._tensors]

        graph = _traced(flat, self._loaded)
        olds = successors(form, self.result_form, donate)
        numbers = {k for k, leaf in enumerate(leaves) if _is_number(leaf)}
        self._numbers = [k for k in self._tensors if olds[k] in numbers]
        self._compiled = torch.compile(graph, dynamic=False)

    def load(self, arguments: tuple[Any, ...]) -> bool:
        """Keep the tensors for the next run; False if the graph is not for these arguments."""
        try:
            leaves = self.form.flatten(arguments)
        except (LookupError, TypeError):
            return False
        if [_known(leaf) for leaf in leaves] != self.form_key:
            return False
        self._loaded = self._tensors_of(leaves)
        return True

    def run(self) -> Any:
        """The results for what was loaded; at first, PyTorch compiles the graph.

        Raises:
            NotCompilable: there is no compiler, or it does not take the graph.
        """
        results: list[Any] = list(self._result)
        given, self._loaded = self._loaded, []
        for k, tensor in zip(self._tensors, self._run(*given), strict=True):
            results[k] = tensor
        for k in self._numbers:
            results[k] = results[k].item()
        return self.result_form.rebuild(results)[0]

    def _run(self, *tensors: Any) -> Any:
        from torch._dynamo.exc import BackendCompilerFailed
        from torch._inductor import exc

        refused = exc.InvalidCxxCompiler, exc.CppCompileError, exc.LoweringException
        try:
            return self._compiled(*tensors)
        except exc.TritonMissing as error:
            raise NotCompilable(str(error)) from error
        except BackendCompilerFailed as error:
            if isinstance(error.inner_exception, refused):
                raise NotCompilable(str(error.inner_exception)) from error
            raise error.inner_exception from error

    def _tensors_of(self, leaves: list[Any]) -> list[Any]:
        import torch

        return [
            torch.tensor(leaves[k], dtype=_WIDEST[type(leaves[k])](torch))
            if _is_number(leaves[k])
            else leaves[k]
            for k in self._varying
        ]


_WIDEST = {int: lambda torch: torch.int64, float: lambda torch: torch.float64}


def _known(leaf: Any) -> Any:
    """What a graph depends on: the value of a flag, of a number the type, of a tensor the form."""
    if hasattr(leaf, "shape"):
        return leaf.shape, leaf.dtype
    return type(leaf) if _is_number(leaf) else (type(leaf), leaf)


def _is_number(leaf: Any) -> bool:
    return type(leaf) in (int, float)


def _varies(leaf: Any) -> bool:
    return _is_number(leaf) or hasattr(leaf, "shape")
