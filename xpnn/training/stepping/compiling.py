"""Whether steps are compiled, and if not, why: whose code they call."""

from functools import partial
from types import FunctionType
from typing import Any, Literal, TypeAlias

from xpnn.backends import Backend
from xpnn.layers import Lambda
from xpnn.losses.by_output import ByOutput
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.typing import Loss

Compile: TypeAlias = bool | Literal["fused"] | None
FUSED: Literal["fused"] = "fused"


def check_compile(compile: Compile, backend: Backend) -> None:
    """Raise CompileError where the backend does not fuse, ValueError for a word there is not."""
    if isinstance(compile, str):
        if compile != FUSED:
            raise ValueError(f"compile is True, False, None or {FUSED!r}, got {compile!r}")
        backend.compile_fused(_nothing, lambda _: _nothing)


def _nothing() -> None:
    """A step that does nothing."""


def why_not_compiled(
    network: Network, loss: Loss, optimizer: Optimizer, compile: Compile
) -> str | None:
    """Why training steps are not compiled, and what to write to have them compiled; None if so."""
    if compile is not None:
        return None if compile else "compile=False was given"
    name, compiles = network.backend.name, network.backend.compiles
    if compiles == "none":
        return f"backend {name!r} compiles no steps unless Trainer(..., compile=True) asks for it"
    own = None if compiles == "all" else own_part(*parts_of(network, loss, optimizer))
    return own and (
        f"{own} is not xpnn's, and may count, print or draw; if what it returns depends on its "
        f"arguments alone, write Trainer(..., compile=True)"
    )


def parts_of(network: Network, loss: Loss, optimizer: Optimizer) -> list[Any]:
    """All objects and functions that a training step calls."""
    given = [layer for layer in network.all_layers if isinstance(layer, Lambda)]
    functions = [function for layer in given for function in (layer.rule, layer.slope)]
    own = [*network.all_layers, *functions, *all_losses(loss)]
    return [*own, *parts_of_update(network, optimizer)]


def parts_of_update(network: Network, optimizer: Optimizer) -> list[Any]:
    """Those of them that are called behind ``backward``."""
    rules = [rule for of_name in network.regularizers().values() for rule in of_name]
    return [*rules, optimizer, *([optimizer.clip] if optimizer.clip else [])]


def all_losses(loss: Loss) -> list[Loss]:
    """The functions of which a loss is made: itself, or one for each output."""
    return loss.functions if isinstance(loss, ByOutput) else [loss]


def own_part(*parts: Any) -> str | None:
    """The name of the first function among these parts that is the user's own, if there is one.

    All code in the package xpnn is known to depend on its arguments alone. A layer or loss of the
    user's, or a method put in place of one of xpnn's, on an object or on its class, may count its
    calls, draw numbers or print, and has to be called at every step, unless the user says
    otherwise.
    """
    for part in parts:
        bare = part.func if isinstance(part, partial) else part
        if isinstance(bare, FunctionType):
            if not _is_ours(bare):
                return bare.__qualname__
            continue
        kind = type(bare)
        if not _is_ours(kind):
            return kind.__qualname__
        replaced = [
            *(
                name
                for name in getattr(bare, "__dict__", ())
                if callable(getattr(kind, name, None))
            ),
            *(name for base in kind.__mro__ if _is_ours(base) for name in _foreign_methods(base)),
        ]
        if replaced:
            return f"{kind.__qualname__}.{replaced[0]}"
    return None


def _foreign_methods(kind: type) -> list[str]:
    """The methods of a class of xpnn's that were not written there."""
    return [
        name
        for name, value in vars(kind).items()
        if callable(value) and not isinstance(value, type) and not _is_ours(value)
    ]


def _is_ours(one: Any) -> bool:
    """Whether a class or function was written in xpnn, whatever ``functools.wraps`` says."""
    if not isinstance(one, FunctionType):
        one = one.func if isinstance(one, partial) else getattr(one, "__func__", one)
    if isinstance(one, FunctionType):
        module = one.__globals__.get("__name__", "")  # which code that was typed in may lack
    else:
        module = (one if isinstance(one, type) else type(one)).__module__
    return module.partition(".")[0] == "xpnn"
