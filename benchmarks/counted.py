"""What a training step launches on CuPy, what it moves and multiplies: counted, not timed.

``python -m benchmarks.counted`` captures the steps of ``benchmarks.gpu`` at their full size. A
capture runs nothing: arrays have shapes and addresses, kernels become nodes of a graph. For each
function of CuPy and of the backend it is seen how many nodes the call has added by itself, beside
those of calls inside of it::

    bytes    of the arrays that it was given and of those that it gave back, for each such node
    FLOP     2 m n k of each product of matrices, likewise for convolutions and attention

An entry of an array counts once, however often a kernel reads it: caches are taken as perfect.
What cuBLAS launches beside the one kernel that does the work is not seen before a GPU runs it.
The bound is the time that the bytes and the FLOP of each call take, whichever is more, at rates
that one NVIDIA H200 reached: 4.3 TB/s, 790 TFLOP/s in half precision, 430 in TF32.

This has a process of its own: functions of CuPy are wrapped before xpnn looks at them.
"""

import argparse
import ctypes
import functools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu_works import SMALL, WORKS
from benchmarks.works import RATE, Work

BYTES = 4.3e12
FLOPS = {4: 430e12, 2: 790e12}
"""What an H200 reached in a second, FLOP by the bytes of an operand."""

METHODS = (
    *("__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__", "__neg__"),
    *("__mul__", "__rmul__", "__imul__", "__truediv__", "__rtruediv__", "__itruediv__"),
    *("__pow__", "__rpow__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"),
    *("__and__", "__or__", "__invert__", "__abs__", "__getitem__", "__setitem__"),
    *("astype", "copy", "fill", "take", "reshape", "ravel", "flatten", "sum", "mean", "max"),
    *("min", "prod", "any", "all", "argmax", "argmin", "cumsum", "dot", "clip"),
)
ROWS = ("take", "__getitem__", "take_along_axis")  # of the first argument they read some rows


class Counts:
    """What each call has launched by itself, while a stream is captured."""

    def __init__(self) -> None:
        self.stream: int | None = None
        self.driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        self.clear()

    def clear(self) -> None:
        self.launches, self.moved, self.flops = Counter[str](), Counter[str](), Counter[str]()
        self.seconds, self._claimed, self._whole = Counter[str](), 0, 0

    def nodes(self) -> int:
        """How many nodes the graph has that is being captured."""
        status, number, count = ctypes.c_int(), ctypes.c_ulonglong(), ctypes.c_size_t()
        graph, unused = ctypes.c_void_p(), ctypes.c_void_p()
        outputs = [ctypes.byref(one) for one in (status, number, graph, unused, count)]
        self.driver.cuStreamGetCaptureInfo_v2(ctypes.c_void_p(self.stream), *outputs)
        self.driver.cuGraphGetNodes(graph, None, ctypes.byref(count))
        return count.value

    def wrapped(
        self,
        function: Callable[..., Any],
        name: str,
        whole: bool = False,
        flops: Callable[..., float] | None = None,
    ) -> Any:
        """``function``, counted.

        Args:
            name: under which.
            whole: whether calls inside of it are its own: it is one kernel, told what it does.
            flops: of its arguments and its result; for what has counted none inside.
        """

        def call(*given: Any, **named: Any) -> Any:
            if self.stream is None or self._whole:
                return function(*given, **named)
            claimed, before, multiplied = self._claimed, self.nodes(), self.flops.total()
            region = _region(given) if name == "__setitem__" else None
            self._whole += whole
            try:
                result = function(*given, **named)
            finally:
                self._whole -= whole
            own = self.nodes() - before - (self._claimed - claimed)
            worth = flops(result, *given, **named) if flops and given else 0.0
            worth = worth if multiplied == self.flops.total() else 0.0
            if own or worth:
                self._claimed += own
                size = own * _moved(name, given, named, result, region)
                item = next((one.dtype.itemsize for one in _arrays((result, given))), 4)
                self.launches[name] += own
                self.moved[name] += size
                self.flops[name] += worth
                self.seconds[name] += max(size / BYTES, worth / FLOPS[min(max(item, 2), 4)])
            return result

        return functools.update_wrapper(_Wrapped(function, call), function)


class _Wrapped:
    """A function that is called through another one; its attributes stay at hand."""

    def __init__(self, function: Any, call: Callable[..., Any]):
        self._function, self._call = function, call

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._call(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self._call, owner)


def _arrays(tree: Any) -> Iterator[Any]:
    import cupy

    if isinstance(tree, cupy.ndarray):
        yield tree
    elif isinstance(tree, list | tuple | dict):
        for one in tree.values() if isinstance(tree, dict) else tree:
            yield from _arrays(one)


def _size(array: Any) -> int:
    """Bytes of the entries that differ in where they lie."""
    axes = zip(array.shape, array.strides, strict=True)
    return array.dtype.itemsize * math.prod(n if stride else min(n, 1) for n, stride in axes)


def _region(given: tuple[Any, ...]) -> Any:
    """What ``array[key] = value`` writes to, if that is a view."""
    array, key, _ = given
    return array if any(True for _ in _arrays(key)) else array[key]


def _moved(name: str, given: Any, named: Any, result: Any, region: Any) -> int:
    """Bytes read and written by one launch of a call."""
    if region is not None:
        return _size(region) + sum(map(_size, _arrays(given[1:])))
    results = sum(map(_size, _arrays(result)))
    read = {(one.data.ptr, one.shape, one.strides): one for one in _arrays((given, named))}
    sizes = [_size(one) for one in read.values()]
    if name in ROWS and sizes:
        sizes[0] = min(sizes[0], results)
    return sum(sizes) + results


# What is wrapped ----------------------------------------------------------------------------------


def install() -> Counts:
    """Wrap CuPy and xpnn's backend for it. Nothing of this process may have used them before."""
    import cupy

    counts = Counts()
    for name, one in list(vars(cupy).items()):
        if callable(one) and not isinstance(one, type) and not name.startswith("_"):
            setattr(cupy, name, counts.wrapped(one, name))
    for name in METHODS:
        setattr(cupy.ndarray, name, counts.wrapped(getattr(cupy.ndarray, name), name))
    for kind in ("ElementwiseKernel", "ReductionKernel"):
        setattr(cupy, kind, _making(counts, getattr(cupy, kind)))
    cupy.fuse = _fusing(counts, cupy.fuse)
    _install_backend(counts)
    return counts


def _making(counts: Counts, kind: Any) -> Callable[..., Any]:
    """In place of a class of kernels: its kernels, counted by the names that they have."""

    def make(*given: Any, **named: Any) -> Any:
        kernel = kind(*given, **named)
        return counts.wrapped(kernel, getattr(kernel, "name", kind.__name__), whole=True)

    return make


def _fusing(counts: Counts, fuse: Any) -> Callable[..., Any]:
    def named(*given: Any, kernel_name: str = "fused", **options: Any) -> Callable[..., Any]:
        def made(function: Any) -> Any:
            kernel = fuse(*given, kernel_name=kernel_name, **options)(function)
            return counts.wrapped(kernel, kernel_name, whole=True)

        return made

    return named


def _install_backend(counts: Counts) -> None:
    from xpnn.backends.cupy import program
    from xpnn.backends.cupy.backend import CupyBackend
    from xpnn.backends.cupy.products import Products

    make = CupyBackend.elementwise

    def elementwise(backend: Any, rule: Any, donate: Any = ()) -> Any:
        name = getattr(rule, "__qualname__", "rule").replace(".<locals>", "")
        return counts.wrapped(make(backend, rule, donate), name, whole=True)

    flops = {
        "convolve": lambda out, _, kernel, *__, **___: _convolved(kernel, out),
        "convolve_input_gradient": lambda _, delta, kernel, *__, **___: _convolved(kernel, delta),
        "convolve_kernel_gradient": lambda out, _, delta, *__, **___: _convolved(out, delta),
        "attention": lambda _, *given, **how: 2 * _attended(*given, **how),
        "attention_gradients": lambda _, *given, **how: 5 * _attended(*given, **how),
    }
    for name, one in _methods(CupyBackend):
        of = flops.get(name)
        counted = counts.wrapped(one, name, flops=_without_backend(of) if of else None)
        setattr(CupyBackend, name, counted)
    CupyBackend.elementwise = elementwise  # type: ignore[method-assign]
    compiled = program.compiled

    def kernel_of(source: str) -> Any:
        kernel = compiled(source)
        return counts.wrapped(kernel, kernel.name, whole=True)

    program.compiled = kernel_of
    program.multiply_into = counts.wrapped(  # type: ignore[assignment]
        program.multiply_into, "product", flops=lambda _, a, b, out: 2.0 * out.size * a.shape[-1]
    )
    Products.product = counts.wrapped(  # type: ignore[method-assign]
        Products.product, "product", flops=lambda out, _, a, b: 2.0 * out.size * a.shape[-1]
    )


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name in dir(kind):
        static = isinstance(vars(kind).get(name), classmethod | staticmethod)
        one = getattr(kind, name)
        if not name.startswith("_") and not static and type(one) is type(_methods):
            yield name, one


def _without_backend(flops: Callable[..., float]) -> Callable[..., float]:
    return lambda result, _, *given, **named: flops(result, *given, **named)


def _convolved(kernel: Any, delta: Any) -> float:
    """FLOP of one of a convolution's three products; ``delta`` has the shape of its output."""
    return 2.0 * kernel.size * delta.size / delta.shape[-1]


def _attended(queries: Any, keys: Any, *_: Any, causal: bool = False, **__: Any) -> float:
    """FLOP of one product of the size of Q K^T, half of it where only half is seen."""
    return 2.0 * queries.size * keys.shape[-2] / (2 if causal else 1)


# Steps and layers ---------------------------------------------------------------------------------


def counted_step(counts: Counts, work: Work, precision: str | None, fused: bool) -> dict[str, Any]:
    """A step in float32 with TF32, or in half precision; as it is written, or its kernels fused."""
    from xpnn import Adam, Network, cross_entropy, get_backend
    from xpnn.backends.cupy.fusing import Fusing
    from xpnn.training.stepping.precision import as_precision
    from xpnn.training.stepping.step import make_train_step

    def step_of(network: Any) -> Callable[..., Any]:
        options: dict[str, Any] = {"precision": half, "compile": False}
        return make_train_step(network, cross_entropy, optimizer, **options)

    network = Network(work.layers(), work.input_shape, get_backend("cupy", tf32=True), seed=0)
    backend, optimizer, half = network.backend, Adam(RATE), as_precision(precision, network)
    x, y = work.data()
    x = backend.asarray(x, "int32" if work.vocabulary else "float32")
    y = backend.asarray(y, "int32")
    scaling = (half.scaling,) if half else ()
    start = network.params, network.state, optimizer.init(network.params, backend, *scaling)
    if not fused:
        return captured(counts, backend, lambda own: step_of(network)(*own, x, y)[:3], start)
    program = Fusing(
        lambda recorder: step_of(network.blank_on(recorder)), frozenset((0, 1, 2)), backend
    )((*start, x, y))
    *start, x, y = program.arranged((*start, x, y))
    network.params, network.state = start[:2]  # so that those that lay elsewhere are free
    return captured(counts, backend, lambda own: program(*own, x, y)[:3], start)


def captured(
    counts: Counts, backend: Any, function: Callable[[Any], Any], own: Any
) -> dict[str, Any]:
    """What ``function(own)`` launches when it is called for the second time.

    The first time it makes constants, which the host would copy: nothing here reads their values.
    """
    import cupy

    from xpnn.backends.cupy.graph import CaptureContext

    backend.from_numpy = lambda array: cupy.empty(array.shape, array.dtype)
    backend.for_all_threads = backend.from_numpy  # which would wait for its copy
    with backend.on_device():
        _, own = CaptureContext().capture(lambda: function(own))
        context = CaptureContext()

        def second() -> Any:
            counts.clear()
            counts.stream = context.stream.ptr
            try:
                result = function(own)
                return result, counts.nodes()
            finally:
                counts.stream = None

        held = cupy.get_default_memory_pool().used_bytes()
        _, (_, nodes) = context.capture(second)
    return {
        "launches": nodes,
        "products": counts.launches["product"],
        "bytes": counts.moved.total(),
        "unseen launches": nodes - counts.launches.total(),
        "flop": counts.flops.total(),
        "bound, s": counts.seconds.total(),
        "memory": held + context.pool.total_bytes(),
        "calls": {
            name: [count, counts.moved[name], counts.flops[name], counts.seconds[name]]
            for name, count in counts.launches.most_common()
        },
    }


def layers(small: bool) -> dict[str, tuple[Callable[[], Any], tuple[int, ...], int]]:
    """Single layers as they are in the works: how to make one, its input shape and the batch."""
    from xpnn.layers import LSTM, BatchNorm, Conv2D, Dense, LayerNorm, MaxPool2D, MultiHeadAttention

    k, batch = (8, 2) if small else (1, 256)
    image, text = (32 // k, 32 // k, 64 // k), (512 // k, 512 // k)
    return {
        "Conv2D 3x3": (lambda: Conv2D(64 // k, 3, padding=1), image, batch),
        "MaxPool2D": (lambda: MaxPool2D(2), image, batch),
        "BatchNorm": (BatchNorm, image, batch),
        "MultiHeadAttention, causal": (lambda: MultiHeadAttention(8, causal=True), text, 16 // k),
        "LayerNorm": (LayerNorm, text, 16 // k),
        "Dense": (lambda: Dense(2048 // k), (2048 // k,), 512 // k),
        "LSTM": (lambda: LSTM(512 // k), (64 // k, 512 // k), 128 // k),
    }


def counted_layer(
    counts: Counts, make: Callable[[], Any], shape: tuple[int, ...], batch: int, dtype: str
) -> dict[str, Any]:
    """Forward and backward of a layer by itself."""
    from xpnn import Network, get_backend

    network = Network([make()], shape, get_backend("cupy", tf32=True), dtype=dtype, seed=0)
    xp, root = network.backend.xp, network.root
    half = xp.float16 if dtype == "float16" else xp.float32
    x = xp.zeros((batch, *shape), dtype=half)
    delta = xp.zeros((batch, *network.output_shape), dtype=half)

    def both(_: Any) -> Any:
        root.forward(x, True)
        return root.backward(delta)

    return captured(counts, network.backend, both, None)


# Output -------------------------------------------------------------------------------------------


def row(title: str, one: dict[str, Any]) -> str:
    """A line of a table."""
    cells = [
        f"{one['launches']:,}",
        f"{one['products']:,}",
        f"{one['bytes'] / 1e9:.2f}",
        f"{one['flop'] / 1e12:.3f}",
        f"{1e3 * one['bound, s']:.2f}",
        f"{one['memory'] / 1e9:.2f}",
    ]
    return f"| {title} | {' | '.join(cells)} |"


def main() -> None:
    """Print a table of works and layers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counted", description=__doc__)
    parser.add_argument("--works", default="", help="only those whose title contains this")
    parser.add_argument("--precisions", default="TF32,float16", help="with commas")
    parser.add_argument("--small", action="store_true", help="with few units")
    parser.add_argument("--fused", action="store_true", help='with compile="fused"')
    parser.add_argument("--layers", action="store_true", help="single layers instead")
    parser.add_argument("--calls", type=int, default=0, help="print so many calls of each")
    parser.add_argument("--json", default="", help="a file for all numbers; - prints nothing else")
    options = parser.parse_args()
    counts, found = install(), {}
    quiet = options.json == "-"
    if not quiet:
        print("| | launches | products | GB | TFLOP | bound, ms | memory, GB |")
        print("|---|--:|--:|--:|--:|--:|--:|")
    chosen: dict[str, Any] = (
        layers(options.small) if options.layers else (SMALL if options.small else WORKS)
    )
    for title, one in chosen.items():
        for precision in options.precisions.split(",") if options.works in title else ():
            half = None if precision == "TF32" else precision
            if options.layers:
                result = counted_layer(counts, *one, dtype=half or "float32")
            else:
                result = counted_step(counts, one, half, options.fused)
            found[f"{title}, {precision}"] = result
            if not quiet:
                print(row(f"{title}, {precision}", result), flush=True)
                for name, call in list(_by_time(result))[: options.calls]:
                    number, moved, flop, seconds = call
                    print(
                        f"    {number:5d} x {1e3 * seconds:8.3f} ms {moved / 1e9:8.3f} GB  "
                        f"{flop / 1e12:.3f} TFLOP  {name}"
                    )
    if options.json:
        text = json.dumps(found, indent=1)
        if quiet:
            print(text)
        else:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(text)


def _by_time(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from sorted(result["calls"].items(), key=lambda pair: -pair[1][3])


if __name__ == "__main__":
    main()
