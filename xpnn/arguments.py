"""Arguments, of what types they have to be; and attributes, which there are and which are fixed."""

import difflib
import functools
import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xpnn.errors import AssignmentError, Change, DataError, ShapeError, XpnnError
from xpnn.names_elsewhere import VALUES, in_our_words
from xpnn.typing import Array, Namespace, Shape

Function = TypeVar("Function", bound=Callable[..., Any])
Found = TypeVar("Found")

DESCRIBED = {
    bool: "True or False",
    int: "an integer",
    float: "a finite number",
    str: "a name",
    type(None): "None",
    Callable: "a function",
}
"""What is looked at, in words; all other annotations are left to the function."""


def checked(method: Function) -> Function:
    """A decorator: the method, or constructor, looks at the types of its arguments first.

    NumPy's integers and floats are numbers like any other; True and False are none.

    Raises:
        TypeError: an argument is not of the type that the signature says.

    >>> class Coin:
    ...     @checked
    ...     def __init__(self, sides: int = 2):
    ...         pass
    >>> Coin("two")
    Traceback (most recent call last):
    TypeError: Coin wants sides to be an integer, got 'two'
    """

    @functools.wraps(method)
    def looked_at(self: Any, /, *given: Any, **named: Any) -> Any:
        signature, wanted = _described(method)
        try:
            arguments = signature.bind_partial(self, *given, **named).arguments
        except TypeError:  # too many: Python says so below
            refuse_unknown(method, self, named)
            arguments = {}
        for name, kinds in wanted.items():
            if name in arguments and not any(_is(arguments[name], kind) for kind in kinds):
                whose = _called(method, self)
                words = " or ".join(DESCRIBED[kind] for kind in kinds)
                raise TypeError(f"{whose} wants {name} to be {words}, got {arguments[name]!r}")
        return method(self, *given, **named)

    return looked_at  # type: ignore[return-value]


def refuse_unknown(method: Callable[..., Any], made: Any, named: Mapping[str, Any]) -> None:
    """Raise TypeError, with a hint, if a method or constructor of ``made`` has no such argument.

    >>> from xpnn import Adam
    >>> Adam(learning_rate=0.1)
    Traceback (most recent call last):
    TypeError: Adam got an unexpected keyword argument 'learning_rate'; it is Keras's name, here ...
    """
    known = dict(inspect.signature(method).parameters)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in known.values())
    if takes_all and not method.__module__.startswith("xpnn."):
        return
    if method.__name__ == "__init__":
        kind: Any = type(made)
        try:
            known |= parameters_of(kind)
        except XpnnError:  # which cannot be told
            return
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = in_our_words(name, known) or (f", did you mean {close[0]!r}?" if close else "")
            whose = _called(method, made)
            raise TypeError(f"{whose} got an unexpected keyword argument {name!r}{meant}") from None


def refuse_too_many(
    init: Callable[..., Any], made: Any, given: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Raise TypeError if a constructor takes fewer arguments in order, or was given one twice.

    >>> from xpnn import Dense
    >>> Dense(64, 32)
    Traceback (most recent call last):
    TypeError: Dense takes units in order and all else by name, got 2 arguments in order
    >>> Dense(64, units=32)
    Traceback (most recent call last):
    TypeError: Dense takes units in order or by name, got both: 64 and units=32
    """
    known = [*inspect.signature(init).parameters.values()][1:]
    if any(one.kind is one.VAR_POSITIONAL for one in known):
        return
    ordered = [one.name for one in known if one.kind is one.POSITIONAL_OR_KEYWORD]
    for name, value in zip(ordered, given, strict=False):
        if name in named:
            raise TypeError(
                f"{type(made).__name__} takes {', '.join(ordered)} in order or by name, got both: "
                f"{value!r} and {name}={named[name]!r}"
            ) from None
    if len(given) > len(ordered):
        raise TypeError(
            f"{type(made).__name__} takes {', '.join(ordered) or 'nothing'} in order and all else "
            f"by name, got {len(given)} arguments in order"
        ) from None


def _called(method: Callable[..., Any], made: Any) -> str:
    """What a person calls a method: a constructor by its class."""
    return type(made).__name__ if method.__name__ == "__init__" else method.__name__


@functools.cache
def _described(method: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, tuple[Any, ...]]]:
    """The signature, and the kinds of those arguments that can be told from their annotations."""
    found = {}
    for name, hint in get_type_hints(method).items():
        union = get_origin(hint) in (Union, types.UnionType)
        kinds = tuple(_origin(one) for one in (get_args(hint) if union else (hint,)))
        if name != "return" and all(kind in DESCRIBED for kind in kinds):
            found[name] = kinds
    return inspect.signature(method), found


def _origin(hint: Any) -> Any:
    if get_origin(hint) is Literal and all(isinstance(one, str) for one in get_args(hint)):
        return str  # which names there are the function says itself
    return Callable if get_origin(hint) is get_origin(Callable[[], None]) else hint


def _is(value: Any, kind: Any) -> bool:
    if kind is Callable:
        return callable(value)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, kind)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


class FixedAttributes:
    """Base of objects with attributes that cannot be changed once the object is made.

    Attributes:
        fixed: the names of these; a subclass that has more of them says ``(*Base.fixed, "more")``.
    """

    fixed: ClassVar[tuple[str, ...]] = ()
    _is_made = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _making(cls, cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name in kind.fixed and self._is_made:
            raise AssignmentError(
                f"{name} of {kind.__name__} is fixed when it is made; make another {kind.__name__}"
            )
        object.__setattr__(self, name, value)


class KnownAttributes(FixedAttributes):
    """Base of objects whose attributes are made in ``__init__``, or named in their class.

    Once an object is made, setting any other attribute is an error: it would act on nothing. Names
    that begin with an underscore are the class's own business, and free. An attribute that keeps an
    argument of a constructor of xpnn's is looked at as that constructor does.

    Attributes:
        kept_as: where arguments of the constructor are kept, if not under their own names, such as
            ``{"dropout": "dropout.rate"}``.
        looked_at: by which functions other attributes are looked at, ``(object, name, value) ->
            value``, which raise an error or return what is to be kept.

    >>> class Coin(KnownAttributes):
    ...     fixed = ("sides",)
    ...
    ...     def __init__(self, sides=2, bias=0.5):
    ...         self.sides, self.bias = sides, bias
    >>> coin = Coin()
    >>> coin.bais = 0.6
    Traceback (most recent call last):
    xpnn.errors.AssignmentError: Coin has no attribute 'bais', did you mean 'bias'? It has bias, ...
    >>> coin.sides = 3
    Traceback (most recent call last):
    xpnn.errors.AssignmentError: sides of Coin is fixed when it is made; make another Coin
    """

    kept_as: ClassVar[dict[str, str]] = {}
    looked_at: ClassVar[dict[str, Callable[[Any, str, Any], Any]]] = {}
    _is_open: ClassVar[bool] = False  # whether a class takes any attribute all the same

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name in kind.looked_at:
            value = kind.looked_at[name](self, name, value)
        if self._is_made:
            known = name in self.__dict__ or name in kind.fixed or hasattr(kind, name)
            if not (known or kind._is_open or name.startswith("_")):
                raise AssignmentError(_unknown_message(self, name))
            if name not in kind.fixed:
                value = _as_constructed(self, name, value)
        super().__setattr__(name, value)


class Unchanging(KnownAttributes):
    """Base of objects that stay as they were made, as steps may have been compiled with them.

    >>> class Coin(Unchanging):
    ...     def __init__(self, sides=2):
    ...         self.sides = sides
    >>> Coin().sides = 3
    Traceback (most recent call last):
    xpnn.errors.AssignmentError: sides of Coin is fixed when it is made; make another Coin
    """

    _is_open: ClassVar[bool] = False  # whether a class takes any attribute all the same

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_made and not name.startswith("_") and hasattr(self, name):
            kind = type(self).__name__
            raise AssignmentError(f"{name} of {kind} is fixed when it is made; make another {kind}")
        super().__setattr__(name, value)


def _making(cls: type, init: Function) -> Function:
    """The constructor, which says of the object that it is made, unless it is a subclass's."""

    @functools.wraps(init)
    def make(self: Any, *arguments: Any, **named: Any) -> None:
        try:
            init(self, *arguments, **named)
        except TypeError:
            refuse_unknown(init, self, named)
            refuse_too_many(init, self, arguments, named)
            raise
        if next(kind for kind in type(self).__mro__ if "__init__" in vars(kind)) is cls:
            vars(self)["_is_made"] = True

    return make  # type: ignore[return-value]


@functools.cache
def parameters_of(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a constructor by name, those behind its ``**options`` too."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        _, *own = inspect.signature(vars(base)["__init__"]).parameters.values()
        for parameter in own:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise XpnnError(
                    f"the constructor of {kind.__name__} takes *{parameter.name}, from which its "
                    f"arguments cannot be told; give it a method arguments()"
                )
            if parameter.kind is not parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def kept_argument(made: Any, name: str) -> Any:
    """An argument of the constructor as it is now; raises AttributeError if it is not kept."""
    return operator.attrgetter(getattr(made, "kept_as", {}).get(name, name))(made)


def as_written(made: Any) -> str:
    """A line that makes such an object: its class, and those arguments that it was told.

    Arguments that are not kept are left out.

    >>> from xpnn import Checkpoint
    >>> as_written(Checkpoint("runs/digits", keep=5))
    "Checkpoint('runs/digits', keep=5)"
    """
    kind: Any = type(made)
    try:
        parameters = parameters_of(kind)
    except XpnnError:  # which cannot be told
        parameters = {}
    parts = []
    for name, parameter in parameters.items():
        try:
            value = kept_argument(made, name)
        except AttributeError:
            continue
        value = str(value) if isinstance(value, Path) else value
        if parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            parts.append(repr(value))
        elif repr(value) not in (repr(parameter.default), "''"):  # an empty name is none
            parts.append(f"{name}={value!r}")
    return f"{kind.__name__}({', '.join(parts)})"


def _as_constructed(made: Any, name: str, value: Any) -> Any:
    """What a constructor of xpnn's makes of an argument; raises what it raises.

    Another object is made for that, with the other arguments as they are now.
    """
    kind: Any = type(made)
    maker = _maker(kind, name)
    if maker is None:
        return value
    given = {}
    for key, parameter in parameters_of(maker).items():
        try:
            given[key] = kept_argument(made, key)
        except AttributeError:
            if parameter.default is parameter.empty:  # no other one can be made
                return value
    return getattr(maker(**{**given, name: value}), name)


@functools.cache
def _maker(kind: Any, name: str) -> Any:
    """The class of xpnn's, at or above ``kind``, if its constructor takes an argument ``name``."""
    ours = next(one for one in kind.__mro__ if one.__module__.startswith("xpnn."))
    return ours if name in parameters_of(ours) and name not in kind.kept_as else None


def _unknown_message(made: Any, name: str) -> str:
    kind = type(made)
    known = {*vars(made), *(one for one in dir(kind) if not callable(getattr(kind, one)))}
    names = sorted(
        one for one in known - {"fixed", "kept_as", "looked_at"} if not one.startswith("_")
    )
    close = difflib.get_close_matches(name, names, n=1)
    meant = f", did you mean {close[0]!r}?" if close else "."
    return (
        f"{kind.__name__} has no attribute {name!r}{meant} It has {', '.join(names)}. A class of "
        f"your own makes its attributes in __init__, or names them in its body"
    )


def by_name(name: str, known: Mapping[str, Found], what: str) -> Found:
    """What stands under a name.

    Args:
        what: is named, for the error.

    Raises:
        ValueError: nothing does; the message lists the names.

    >>> by_name("hed", {"head": 0, "tail": 1}, "side")
    Traceback (most recent call last):
    ValueError: there is no side 'hed', did you mean 'head'? There are head, tail
    """
    if name in known:
        return known[name]
    ours = VALUES.get(name)
    close = [ours] if ours in known else difflib.get_close_matches(name.lower(), known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"there is no {what} {name!r}{meant} There are {', '.join(known)}")


def as_seed(seed: int) -> int:
    """A seed as an integer of Python; ValueError if it is below 0."""
    if seed < 0:
        raise ValueError(f"seed is an integer of at least 0, got {seed}")
    return int(seed)


def check_input_shape(shape: Shape, of_one: Shape) -> None:
    """Raise ShapeError, with a hint, unless ``shape`` is (batch, *of_one)."""
    if shape and shape[1:] == of_one:
        return
    wanted = f"(batch, {', '.join(map(str, of_one))})" if of_one else "(batch,)"
    hint, change = "reshape the inputs, or give the network another input_shape", None
    if shape == of_one:
        hint, change = "for a single sample add the batch axis", Change("x", "{array}[None, ...]")
    raise ShapeError(f"wanted inputs of shape {wanted}, got {shape}; {hint}", change=change)


def check_integers(x: Array, xp: Namespace) -> None:
    """Raise DataError, with a hint, unless ``x`` holds integers."""
    if not xp.isdtype(x.dtype, "integral"):
        raise DataError(
            f"wanted integers, such as the ids that an Embedding looks up, got {x.dtype}",
            change=Change("x", dtype="int64"),
        )


def in_order(given: Any, names: Sequence[str], what: str) -> tuple[Any, ...]:
    """What was given for several things, in their order: one after another, or by name.

    Where there is one thing only, all but a dict is given for it.

    Args:
        names: of the things.
        what: was given, for errors.

    Raises:
        DataError: there are more or fewer, or other names.

    >>> in_order({"b": 2, "a": 1}, ["a", "b"], "x"), in_order([1, 2], ["a"], "x")
    ((1, 2), ([1, 2],))
    """
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise DataError(
                f"wanted {what} by the names {', '.join(names)}, got {', '.join(map(str, given))}"
            )
        return tuple(given[name] for name in names)
    if len(names) == 1:
        return (given,)
    if not isinstance(given, tuple | list) or len(given) != len(names):
        came = f"{len(given)}" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
        raise DataError(
            f"wanted {what} to be a tuple of {len(names)}, or a dict, for {', '.join(names)}, got "
            f"{came}"
        )
    return tuple(given)


def same_length(**arrays: Any) -> int:
    """The common number of rows, at least 1; None values are passed over.

    Raises:
        ShapeError: the numbers differ.
        DataError: there are no rows.
    """
    count = same_rows(**arrays)
    if count == 0:
        raise DataError("wanted at least one sample, got none")
    return count


def same_rows(**arrays: Any) -> int:
    """The common number of rows, which may be 0; None values are passed over.

    Raises:
        ShapeError: the numbers differ.
    """
    given = {name: a for name, a in arrays.items() if a is not None}
    for name, a in given.items():
        if not len(a.shape):
            raise ShapeError(f"wanted {name} to have one row for each sample, got a single number")
    rows = {name: int(a.shape[0]) for name, a in given.items()}
    if len(set(rows.values())) != 1:
        listed = ", ".join(f"{name} has {n}" for name, n in rows.items())
        raise ShapeError(f"wanted one row for each sample everywhere, but {listed}; align the data")
    (count,) = set(rows.values())
    return count
