"""The text of a loop in the language of LLVM.

A text is a Python function of ``for`` over ``range``, ``if``, assignments, and formulas of names,
items of arrays and calls (``text.py``). Its lines are read one by one; formulas are worked out by
Python itself on a `Value` for each number that is known only when the loop runs, and each operation
on one writes a line of LLVM. So functions of the text are called as they are, and stand in the
loop.

What is assigned to a name lies in memory, which LLVM turns into registers. A function that takes
its arguments from a list of words calls the loop: one pointer is handed over, whatever they are.
"""

import ast
import functools
import operator
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnn.backends.numpy.loops import vector_math

# Vectors may be as wide as the processor has them: for Intel's, LLVM takes half of that, lest the
# clock slows down, which it has done anyway when OpenBLAS has multiplied.
ATTRIBUTES = 'noinline nounwind "prefer-vector-width"="512"'
INDEX = np.dtype(np.uint64)
FLAG = np.dtype(bool)

OF_REALS = {
    np.add: "fadd",
    np.subtract: "fsub",
    np.multiply: "fmul",
    np.divide: "fdiv",
    np.negative: "fneg",
}
OF_WHOLE = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.bitwise_and: "and",
    np.bitwise_or: "or",
    np.bitwise_xor: "xor",
    np.left_shift: "shl",
    np.right_shift: "ashr",
}
COMPARED = {  # by kinds of numbers: floats, signed and unsigned; NaN is unequal to all
    np.equal: ("fcmp oeq", "icmp eq", "icmp eq"),
    np.not_equal: ("fcmp une", "icmp ne", "icmp ne"),
    np.less: ("fcmp olt", "icmp slt", "icmp ult"),
    np.less_equal: ("fcmp ole", "icmp sle", "icmp ule"),
    np.greater: ("fcmp ogt", "icmp sgt", "icmp ugt"),
    np.greater_equal: ("fcmp oge", "icmp sge", "icmp uge"),
}
KINDS = {"f": 0, "i": 1}
CALLED = {
    np.absolute: "fabs",
    np.sqrt: "sqrt",
    np.floor: "floor",
    np.copysign: "copysign",
}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.USub: operator.neg,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def lowered(source: str, types: Sequence[str], name: str) -> str:
    """A text as a module of LLVM.

    Args:
        source: the text of one function.
        types: of all arguments but the first five, "step" or the letters of an array's dtype.
        name: that of the function of the module that takes the arguments as a list of words.
    """
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    names = [one.arg for one in function.args.args]
    with np.errstate(all="ignore"):  # functions of constants are worked out here
        return _Body().module(names, ["step"] * 5 + list(types), function.body, name)


@dataclass(eq=False)
class Value(NDArrayOperatorsMixin):
    """A number that is known when the loop runs; operations on it are lines of the loop."""

    body: "_Body"
    dtype: np.dtype[Any]
    name: str

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> "Value":
        dtype = self.dtype
        return self.body.operation(ufunc, [self.body.value(one, dtype) for one in inputs])

    def view(self, dtype: Any) -> "Value":
        """The same bits as another dtype of that size."""
        dtype = np.dtype(dtype)
        return self.body.line(dtype, f"bitcast {_typed(self)} to {_type(dtype)}")


@dataclass
class _Array:
    dtype: np.dtype[Any]
    name: str


@dataclass
class _Body:
    """The lines of a loop.

    Attributes:
        flags: what LLVM may do about rounding in operations that are written now.
        variables: where what is assigned to a name lies.
    """

    lines: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)
    flags: str = ""
    count: int = 0
    variables: dict[str, _Array] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def module(
        self, names: Sequence[str], types: Sequence[str], lines: Sequence[ast.stmt], name: str
    ) -> str:
        """All of LLVM's text."""
        parameters, taken, handed = [], [], []
        for k, (one, letters) in enumerate(zip(names, types, strict=True)):
            is_number = letters == "step"
            plain = "i64" if is_number else "ptr"
            dtype = INDEX if is_number else np.dtype(letters)
            kind = Value(self, dtype, f"%{one}") if is_number else _Array(dtype, f"%{one}")
            self.arguments[one] = kind
            parameters.append(f"{plain} %{one}" if is_number else f"ptr noalias %{one}")
            taken.append(f"%at{k} = getelementptr i64, ptr %words, i64 {k}")
            taken.append(f"%word{k} = load {plain}, ptr %at{k}")
            handed.append(f"{plain} %word{k}")
        for line in lines:
            self._statement(line)
        return "\n".join(
            [
                *sorted(self.declared),
                f"define internal void @loop({', '.join(parameters)}) {ATTRIBUTES} {{",
                *self.kept,
                *self.lines,
                "ret void",
                "}",
                f"define void @{name}(ptr %words) nounwind {{",
                *taken,
                f"call void @loop({', '.join(handed)})",
                "ret void",
                "}",
            ]
        )

    # Lines ----------------------------------------------------------------------------------------

    def new(self, prefix: str) -> str:
        """A name that is not there yet."""
        self.count += 1
        return f"{prefix}.{self.count}"

    def line(self, dtype: np.dtype[Any], instruction: str) -> Value:
        """What an instruction makes."""
        name = f"%{self.new('v')}"
        self.lines.append(f"{name} = {instruction}")
        return Value(self, dtype, name)

    def value(self, one: Any, dtype: Any = None) -> Value:
        """A constant as a value, if it is none yet; that of Python in the dtype beside it."""
        if isinstance(one, Value):
            return one
        dtype = np.dtype(getattr(one, "dtype", dtype or type(one)))
        return Value(self, dtype, _constant(one, dtype))

    def operation(self, ufunc: Any, values: Sequence[Value]) -> Value:
        """What a ufunc makes of values of one dtype."""
        dtype = values[0].dtype
        assert all(one.dtype == dtype for one in values), (ufunc, values)
        operands = f"{_type(dtype)} {', '.join(one.name for one in values)}"
        if ufunc in CALLED:
            return self._call(f"llvm.{CALLED[ufunc]}.f{8 * dtype.itemsize}", values)
        if ufunc in COMPARED:
            return self.line(FLAG, f"{COMPARED[ufunc][KINDS.get(dtype.kind, 2)]} {operands}")
        if dtype.kind == "f":
            return self.line(dtype, f"{OF_REALS[ufunc]} {self.flags} {operands}")
        fits = "nuw nsw" if dtype == INDEX else ""  # no array is as large as numbers go
        return self.line(dtype, f"{OF_WHOLE[ufunc]} {fits} {operands}")

    def _call(self, function: str, values: Sequence[Value]) -> Value:
        kind = _type(values[0].dtype)
        self.declared.add(f"declare {kind} @{function}({', '.join([kind] * len(values))})")
        arguments = ", ".join(map(_typed, values))
        return self.line(values[0].dtype, f"call {kind} @{function}({arguments})")

    def cast(self, value: Value, dtype: np.dtype[Any]) -> Value:
        """A value in another dtype."""
        own = value.dtype
        if own == dtype:
            return value
        if dtype == FLAG:
            return self.operation(np.not_equal, [value, self.value(0, own)])
        if own.kind == "f" and dtype.kind == "f":
            name = "fpext" if dtype.itemsize > own.itemsize else "fptrunc"
        elif own.kind == "f":
            name = "fptosi" if dtype.kind == "i" else "fptoui"
        elif dtype.kind == "f":
            name = "sitofp" if own.kind == "i" else "uitofp"
        elif own == FLAG or own.itemsize < dtype.itemsize:
            name = "sext" if own.kind == "i" else "zext"
        elif own.itemsize > dtype.itemsize:
            name = "trunc"
        else:
            name = "bitcast"
        return self.line(dtype, f"{name} {_typed(value)} to {_type(dtype)}")

    def where(self, test: Value, one: Any, other: Any) -> Value:
        """One of two values."""
        dtype = (one if isinstance(one, Value) else other).dtype
        values = [self.value(one, dtype), self.value(other, dtype)]
        assert values[0].dtype == values[1].dtype, values
        return self.line(dtype, f"select {', '.join(map(_typed, (test, *values)))}")

    # Statements -----------------------------------------------------------------------------------

    def _statement(self, line: ast.stmt) -> None:
        match line:
            case ast.Assign(targets=[target]):
                self._assign(target, self._formula(line.value))
            case ast.AugAssign(op=op, target=target):
                made = OPERATORS[type(op)](self._formula(target), self._formula(line.value))
                self._assign(target, made)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(args=ends), body=body):
                *start, stop = map(self._formula, ends)
                self._loop(name, start[0] if start else 0, stop, body)
            case ast.If(test=test, body=body, orelse=[]):
                self._branch(self._formula(test), body)
            case _:
                raise TypeError(f"no line of a loop: {ast.unparse(line)}")

    def _assign(self, target: ast.expr, made: Any) -> None:
        if isinstance(target, ast.Subscript):
            array, at = self._place(target)
            self._store(self.value(made, array.dtype), array, at)
            return
        assert isinstance(target, ast.Name)
        value = self.value(made)
        variable = self.variables.get(target.id)
        if variable is None or variable.dtype != value.dtype:
            variable = _Array(value.dtype, f"%{self.new(target.id)}")
            self.variables[target.id] = variable
            self.kept.append(f"{variable.name} = alloca {_type(value.dtype)}")
        self.lines.append(f"store {_typed(value)}, ptr {variable.name}")

    def _loop(self, name: str, start: Any, stop: Any, body: Sequence[ast.stmt]) -> None:
        test, inside, behind = self.new("test"), self.new("inside"), self.new("behind")
        target = ast.Name(name)
        self._assign(target, self.value(start, INDEX))
        self.lines += [f"br label %{test}", f"{test}:"]
        goes_on = self._formula(target) < stop
        self.lines += [f"br i1 {goes_on.name}, label %{inside}, label %{behind}", f"{inside}:"]
        for line in body:
            self._statement(line)
        self._assign(target, self._formula(target) + 1)
        self.lines += [f"br label %{test}", f"{behind}:"]

    def _branch(self, test: Value, body: Sequence[ast.stmt]) -> None:
        inside, behind = self.new("inside"), self.new("behind")
        self.lines += [f"br i1 {test.name}, label %{inside}, label %{behind}", f"{inside}:"]
        for line in body:
            self._statement(line)
        self.lines += [f"br label %{behind}", f"{behind}:"]

    # Formulas -------------------------------------------------------------------------------------

    def _formula(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._named(name)
            case ast.Subscript():
                return self._load(*self._place(node))
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](self._formula(left), self._formula(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return OPERATORS[type(op)](self._formula(left), self._formula(right))
            case ast.UnaryOp(op=ast.Not(), operand=one):
                return choose(self._formula(one), np.False_, np.True_)
            case ast.UnaryOp(op=op, operand=one):
                return OPERATORS[type(op)](self._formula(one))
            case ast.IfExp(test=test, body=one, orelse=other):
                return choose(*map(self._formula, (test, one, other)))
            case ast.Call(func=function, args=arguments):
                return self._formula(function)(*map(self._formula, arguments))
        raise TypeError(f"no formula of a loop: {ast.unparse(node)}")

    def _named(self, name: str) -> Any:
        if name in self.variables:
            variable = self.variables[name]
            kind = _type(variable.dtype)
            return self.line(variable.dtype, f"load {kind}, ptr {variable.name}")
        return self.arguments[name] if name in self.arguments else vocabulary()[name]

    def _place(self, node: ast.Subscript) -> tuple[_Array, Value]:
        array, at = self._formula(node.value), self.value(self._formula(node.slice), INDEX)
        kind = "i8" if array.dtype == FLAG else _type(array.dtype)
        where = f"getelementptr inbounds {kind}, ptr {array.name}, i64 {at.name}"
        return array, self.line(INDEX, where)

    def _load(self, array: _Array, at: Value) -> Value:
        if array.dtype == FLAG:  # a byte in memory
            byte = self.line(np.dtype(np.uint8), f"load i8, ptr {at.name}")
            return self.cast(byte, FLAG)
        return self.line(array.dtype, f"load {_type(array.dtype)}, ptr {at.name}")

    def _store(self, value: Value, array: _Array, at: Value) -> None:
        value = self.cast(value, np.dtype(np.uint8)) if array.dtype == FLAG else value
        self.lines.append(f"store {_typed(value)}, ptr {at.name}")


# Words --------------------------------------------------------------------------------------------


@functools.cache
def vocabulary() -> dict[str, Any]:
    """What the names in the text of a loop stand for."""
    names = vector_math.vocabulary(choose, fused=_with("contract"), any_order=_with("reassoc"))
    dtypes = {name: _caster(one) for name, one in names.items() if isinstance(one, type)}
    return names | dtypes | {"abs": abs, "min": lambda one, other: choose(one < other, one, other)}


def choose(test: Any, one: Any, other: Any) -> Any:
    """One of two numbers."""
    if isinstance(test, Value):
        return test.body.where(test, one, other)
    return one if test else other


def _caster(scalar: Any) -> Callable[[Any], Any]:
    dtype = np.dtype(scalar)
    return lambda x: x.body.cast(x, dtype) if isinstance(x, Value) else scalar(x)


def _with(flags: str) -> vector_math.Rounding:
    """What lets LLVM do that with the operations of a function."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        def written(*arguments: Any) -> Any:
            bodies = [one.body for one in arguments if isinstance(one, Value)]
            if not bodies:
                return function(*arguments)
            (body, *_), before = bodies, bodies[0].flags
            body.flags = flags
            try:
                return function(*arguments)
            finally:
                body.flags = before

        return written

    return decorated


def _type(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "float" if dtype.itemsize == 4 else "double"
    return "i1" if dtype == FLAG else f"i{8 * dtype.itemsize}"


def _typed(value: Value) -> str:
    return f"{_type(value.dtype)} {value.name}"


def _constant(number: Any, dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":  # the bits of a double, in both
        return f"0x{struct.pack('>d', float(number)).hex().upper()}"
    return str(int(number))
