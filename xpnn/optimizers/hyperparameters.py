"""The hyperparameters of an optimizer, to be read by name."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from xpnn.optimizers.schedules import Hyper


class Hyperparameters(Mapping[str, Hyper]):
    """Those of an optimizer as they are now, by name, to be read."""

    def __init__(self, values: dict[str, Hyper]):
        self._values = values

    def __getitem__(self, name: str) -> Hyper:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(
            f"hyper is there to be read; write optimizer.{name} = {value!r}, and the next step "
            f"goes by it"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
