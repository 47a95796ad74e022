"""Methods handed to what their own object holds, without a circle that only a collector undoes."""

import weakref
from collections.abc import Callable
from typing import Any


def without_holding(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of an object, as a function that does not keep the object.

    For what the object itself keeps, so that its arrays are free as soon as it is dropped. What is
    no method of an object comes back as it is. The function is called while the object lives.

    >>> class Layer:
    ...     def rule(self, x):
    ...         return 2 * x
    >>> layer = Layer()
    >>> without_holding(layer.rule)(3)
    6
    """
    if getattr(method, "__self__", None) is None or not hasattr(method, "__func__"):
        return method
    found = weakref.WeakMethod(method)

    def call(*arguments: Any, **options: Any) -> Any:
        bound = found()
        assert bound is not None, "the object is gone"
        return bound(*arguments, **options)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(call, name, getattr(method, name))  # functools.wraps would keep the method
    return call
