"""Parameters by name, as searches ask for them: ``get_params``, ``set_params``, ``with_params``.

The names are those of the constructor, which its signature tells, and behind two underscores those
of a part: ``rate__start`` is the start of the schedule that the rate follows. So scikit-learn finds
``optimizer__rate`` in an estimator.
"""

import copy
from typing import Any, Self

from xpnn.arguments import kept_argument, parameters_of
from xpnn.errors import XpnnError


class Parametrized:
    """Base of what tells the arguments that it was made with, and can be made with others."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name, as they are now.

        What takes any number of parts, such as ``Chain``, has none that have names.

        Args:
            deep: whether those of parts are among them, under names such as ``rate__start``.

        >>> from xpnn import SGD, Linear
        >>> params = SGD(Linear(0.1, end=0.0, steps=10)).get_params()
        >>> params["momentum"], params["rate__start"]
        (0.0, 0.1)
        """
        found = {}
        for name in _names(type(self)):
            try:
                found[name] = kept_argument(self, name)
            except AttributeError:  # one that is not kept
                continue
        if deep:
            parts = {name: one for name, one in found.items() if isinstance(one, Parametrized)}
            for name, part in parts.items():
                found |= {f"{name}__{inner}": one for inner, one in part.get_params().items()}
        return found

    def with_params(self, **params: Any) -> Self:
        """Another object of this kind, with some arguments in place of those of this one.

        Raises:
            ValueError: there is no such argument; the message lists those that there are.
            TypeError, ValueError: the constructor refuses a value.

        >>> from xpnn import Linear, WarmUp
        >>> WarmUp(5, Linear(0.1, end=0.0, steps=10)).with_params(steps=3, then__start=0.2)
        WarmUp(steps=3, then=Linear(start=0.2, end=0.0, steps=10))
        """
        return type(self)(**{**self.get_params(deep=False), **self._replaced(params)})

    def _replaced(self, params: dict[str, Any]) -> dict[str, Any]:
        """By the names of arguments what they are to be; of parts, other parts."""
        own = self.get_params(deep=False)
        found: dict[str, Any] = {}
        of_parts: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            name, is_inside, inner = key.partition("__")
            if name not in own:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has "
                    f"{', '.join(own) or 'none that has a name'}"
                )
            if is_inside:
                of_parts.setdefault(name, {})[inner] = value
            else:
                found[name] = value
        for name, inside in of_parts.items():
            part = found.get(name, own[name])
            if not isinstance(part, Parametrized):
                raise ValueError(
                    f"{name} of {type(self).__name__} is {part!r}, which has no parameter "
                    f"{next(iter(inside))!r}; set {name} itself"
                )
            found[name] = part.with_params(**inside)
        return found

    def __sklearn_clone__(self) -> Self:
        return copy.deepcopy(self)


def _names(kind: type) -> list[str]:
    try:
        return list(parameters_of(kind))
    except XpnnError:  # any number of parts, which have no names
        return []
