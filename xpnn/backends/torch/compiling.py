"""A training step as one unit of PyTorch: traced to a graph of its operations, then compiled.

``torch.compile`` reads Python, and a step of layers is much Python. So the step is run once on
stand-ins (``make_fx``), which leaves a flat graph of tensor operations, and that is compiled.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.backends.recording.structure import Structure, successors

logger = logging.getLogger("xpnn")


class CompiledStep:
    """A pure step of nested dicts and tuples of tensors and numbers, compiled once for each shape.

    Python numbers, such as counters, go through the graph as 0-d tensors and come back as numbers.
    Where compiling fails (it needs a C++ compiler), steps run one operation at a time, and the
    reason is logged.
    """

    def __init__(self, step: Callable[..., Any], donate: Sequence[int] = ()):
        self.step, self.donate = step, frozenset(donate)
        self.form: Structure | None = None
        self.units: dict[Any, Unit] = {}
        self.compilable = True

    def __call__(self, *arguments: Any) -> Any:
        if not self.compilable:
            return self.step(*arguments)
        leaves = self._leaves(arguments)
        key = tuple(
            [
                (one.shape, one.dtype) if hasattr(one, "shape") else _known(one)
                for one, path in zip(leaves, self._paths, strict=True)
                if path[0] not in self.donate or not _varies(one)
            ]
        )
        try:
            if key not in self.units:
                self.units[key] = Unit(self.step, arguments, sorted(self.donate))
            return self.units[key](leaves)
        except Exception as reason:  # the step itself decides whether it is an error
            results = self.step(*arguments)
            self.compilable = False
            logger.info("steps run one operation at a time, as compiling them failed: %s", reason)
            return results

    def _leaves(self, arguments: tuple[Any, ...]) -> list[Any]:
        if self.form is not None:
            try:
                return self.form.flatten(arguments)
            except (LookupError, TypeError):
                self.units.clear()
        self.form = Structure(arguments)
        self._paths = self.form.paths
        return self.form.flatten(arguments)


class Unit:
    """The step, traced and compiled for arguments of one form."""

    def __init__(self, step: Callable[..., Any], arguments: tuple[Any, ...], donate: Sequence[int]):
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        form = Structure(arguments)
        leaves = form.flatten(arguments)
        self._fixed = [None if _varies(leaf) else leaf for leaf in leaves]
        self._varying = [place for place, leaf in enumerate(leaves) if _varies(leaf)]

        def flat(*given: Any) -> list[Any]:
            filled = list(self._fixed)
            for place, tensor in zip(self._varying, given, strict=True):
                filled[place] = tensor
            results = (step(*form.rebuild(filled)),)
            self.result_form = Structure(results)
            outputs = self.result_form.flatten(results)
            self._result = [None if isinstance(one, torch.Tensor) else one for one in outputs]
            self._tensors = [k for k, one in enumerate(outputs) if isinstance(one, torch.Tensor)]
            return [outputs[k] for k in self._tensors]

        graph = make_fx(flat)(*self._tensors_of(leaves))
        olds = successors(form, self.result_form, donate)
        numbers = {k for k, leaf in enumerate(leaves) if _is_number(leaf)}
        self._numbers = [k for k in self._tensors if olds[k] in numbers]
        self._run = torch.compile(graph, dynamic=False)

    def __call__(self, leaves: list[Any]) -> Any:
        results: list[Any] = list(self._result)
        for place, tensor in zip(self._tensors, self._run(*self._tensors_of(leaves)), strict=True):
            results[place] = tensor
        for place in self._numbers:
            results[place] = results[place].item()
        return self.result_form.rebuild(results)[0]

    def _tensors_of(self, leaves: list[Any]) -> list[Any]:
        import torch

        return [
            torch.tensor(leaves[place], dtype=_WIDEST[type(leaves[place])](torch))
            if _is_number(leaves[place])
            else leaves[place]
            for place in self._varying
        ]


_WIDEST = {int: lambda torch: torch.int64, float: lambda torch: torch.float64}


def _known(leaf: Any) -> Any:
    """What a compiled step depends on: the value of a flag, but of a number only the type."""
    return type(leaf) if _is_number(leaf) else (type(leaf), leaf)


def _is_number(leaf: Any) -> bool:
    return type(leaf) in (int, float)


def _varies(leaf: Any) -> bool:
    return _is_number(leaf) or hasattr(leaf, "shape")
