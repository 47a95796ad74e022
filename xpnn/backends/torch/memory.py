"""Following the memory of tensors: how many bytes all storages take together, at most."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def storages_followed() -> Iterator[Callable[[], int]]:
    """A context that notes the storages of all tensors that operations return, until they are gone.

    It gives a function that tells how many bytes they took at most since it was called last. What
    an operation asks for and gives back inside is not seen.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    live: dict[int, int] = {}  # bytes by a number of the storage's own
    used = most = 0

    def gone(number: int) -> None:
        nonlocal used
        used -= live.pop(number, 0)

    def note(tensor: Any) -> None:
        nonlocal used, most
        storage = tensor.untyped_storage()
        number = storage._cdata
        if number not in live:
            live[number] = storage.nbytes()
            used += live[number]
            most = max(most, used)
            weakref.finalize(storage, gone, number).atexit = False

    class Following(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, called: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = called(*args, **(kwargs or {}))
            for one in tree_leaves(found):
                if isinstance(one, torch.Tensor):
                    note(one)
            return found

    def peak() -> int:
        nonlocal most
        found, most = most, used
        return found

    with Following():
        yield peak
