"""The memory that training steps take at their highest moment: counted, not measured.

``python -m benchmarks.peaks`` goes through the first steps of ``benchmarks.gpu`` at full size, on
CuPy and in PyTorch, and follows every array from where it is made to where it is dropped. Nothing
is worked out::

    CuPy      steps are captured and the captures dropped: kernels get addresses and do not run,
              and memory is asked for as by steps that do. A memory hook sees all requests: what is
              in use, and what the pools hold of the device.
    PyTorch   fake tensors, which have shapes and no memory; a dispatch mode follows the storages
              that operators make, those that autograd has saved among them.

Of PyTorch Adam is one fused kernel, attention keeps the log-sums of its rows alone, and an LSTM is
cuDNN's, which is taken to reserve six numbers for each unit and step: four gates, c and h. Both
sides are without the workspaces of cuBLAS and cuDNN, and PyTorch's without gaps between blocks.

Each count has a process of its own, whose pools nobody has used before.

``--cpu`` has three smaller works instead, that are run: on NumPy with what Python traces of its
memory, on PyTorch's arrays with the same dispatch mode.
"""

import argparse
import gc
import json
import multiprocessing
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.gpu_works import SMALL, WORKS, gpt
from benchmarks.works import RATE, Work, mlp

PRECISIONS = "TF32", "float16", "bfloat16"
RELAXED = 2  # cudaStreamCaptureModeRelaxed
RESERVED = 6
"""Numbers that cuDNN keeps of an LSTM for each unit, step and sample."""

ON_CPU = {
    "MLP 784-1024-1024-10, batch 128": mlp([784, 1024, 1024, 10], 128),
    "Transformer, 2 blocks, width 128, 64 steps, batch 16": gpt(128, 4, 2, 64, 16, 96),
    "Transformer, 2 blocks, width 128, 1,024 steps, batch 4": gpt(128, 4, 2, 1024, 4, 1024),
}

# CuPy ---------------------------------------------------------------------------------------------


class Requests:
    """What CuPy's pools were asked for, from now on.

    Attributes:
        hook: tells of every request while it is entered.
        events: of each request its address, its bytes (below 0 when they come back) and who asked.
    """

    def __init__(self) -> None:
        import cupy

        self.events: list[tuple[int, int, str]] = []
        self.used = self.most_used = self.most_held = 0
        self._free = cupy.cuda.runtime.memGetInfo()[0]
        requests = self

        class Hook(cupy.cuda.MemoryHook):  # type: ignore[misc]
            name = "requests"

            def malloc_postprocess(self, **given: Any) -> None:
                requests._note(given["mem_ptr"], given["mem_size"], _asker())

            def free_postprocess(self, **given: Any) -> None:
                requests._note(given["mem_ptr"], -given["mem_size"], "")

            def alloc_postprocess(self, **given: Any) -> None:
                requests.most_held = max(requests.most_held, requests.held())

        self.hook = Hook()

    def _note(self, address: int, size: int, asker: str) -> None:
        self.events.append((address, size, asker))
        self.used += size
        self.most_used = max(self.most_used, self.used)

    def held(self) -> int:
        """Bytes of the device that are taken now, and were not in the beginning."""
        import cupy

        return self._free - int(cupy.cuda.runtime.memGetInfo()[0])

    @contextmanager
    def phase(self, found: dict[str, Any]) -> Iterator[None]:
        """Write down the highest moment of what happens inside."""
        self.most_used, self.most_held, first = self.used, self.held(), len(self.events)
        yield
        found |= {"used": self.most_used, "held": self.most_held}
        found["alive"] = self._alive(first)

    def _alive(self, first: int) -> Counter[str]:
        """Bytes by who asked for them, at the highest moment since an event."""
        used = sum(size for _, size, _ in self.events[:first])
        highest, moment = used, first
        for number, (_, size, _) in enumerate(self.events[first:], first + 1):
            used += size
            if used > highest:
                highest, moment = used, number
        alive: dict[int, tuple[int, str]] = {}
        for address, size, asker in self.events[:moment]:
            if size > 0:
                alive[address] = size, asker
            else:
                alive.pop(address, None)
        found = Counter[str]()
        for size, asker in alive.values():
            found[asker] += size
        return found


def _asker(count: int = 4) -> str:
    """The innermost lines of xpnn's that led here."""
    frame, lines = sys._getframe(2), []
    while frame is not None and len(lines) < count:
        place = Path(frame.f_code.co_filename).parts
        if "xpnn" in place:
            lines.append(f"{'/'.join(place[place.index('xpnn') + 1 :])}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(lines)


def cupy_peaks(work: Work, precision: str) -> dict[str, dict[str, Any]]:
    """The highest moments of a trainer's first steps: kernel by kernel, rehearsed, captured.

    Each with ``used`` and ``held`` bytes, without cuBLAS's workspace, and who has them.
    """
    from xpnn import Adam, Network, Trainer, cross_entropy
    from xpnn.backends.cupy.backend import CupyBackend
    from xpnn.backends.cupy.graph import CaptureContext
    from xpnn.backends.cupy.products import WORKSPACE

    gc.collect()
    backend = _without_values(CupyBackend())
    backend.free_memory()
    context, requests = CaptureContext(), Requests()
    phases: dict[str, dict[str, Any]] = {"first": {}, "rehearsed": {}, "captured": {}}
    half = None if precision == "TF32" else precision
    with requests.hook, backend.on_device(), context.stream:
        network = Network(work.layers(), work.input_shape, backend)
        x, y = (backend.asarray(one) for one in work.data())
        x, y = network.asarray(x), backend.asarray(y, "int32")
        trainer = Trainer(network, cross_entropy, Adam(RATE), precision=half)
        with requests.phase(phases["first"]), context.products.instead_of_cupy():
            _unrun(context, lambda: trainer.step(x, y))
        with _counted(phases, requests):
            trainer.step(x, y)
            trainer.step(x, y)
    for name in ("rehearsed", "captured"):  # PyTorch's is not counted either
        phases[name]["used"] -= WORKSPACE
        phases[name]["held"] -= WORKSPACE
    return phases


def _without_values(backend: Any) -> Any:
    """The backend, whose arrays of the host are only made room for: a capture copies nothing."""
    import cupy

    backend.from_numpy = lambda array: cupy.empty(array.shape, array.dtype)
    backend.for_all_threads = backend.from_numpy  # nor does it wait
    return backend


@contextmanager
def _counted(phases: dict[str, dict[str, Any]], requests: Requests) -> Iterator[None]:
    """Inside, steps are rehearsed and captured without being run."""
    from xpnn.backends.cupy.graph import CaptureContext

    rehearse, capture = CaptureContext.rehearse, CaptureContext.capture

    def rehearsed(
        self: Any, step: Callable[..., Any], arguments: tuple[Any, ...], *rest: Any
    ) -> Any:
        def unrun(*given: Any) -> Any:
            return _unrun(self, lambda: step(*given))

        with requests.phase(phases["rehearsed"]):
            return rehearse(self, unrun, arguments, *rest)

    def captured(self: Any, function: Callable[[], Any]) -> tuple[Any, Any]:
        with requests.phase(phases["captured"]):
            return SimpleNamespace(launch=lambda: None), capture(self, function)[1]

    CaptureContext.rehearse = rehearsed  # type: ignore[method-assign]
    CaptureContext.capture = captured  # type: ignore[method-assign]
    try:
        yield
    finally:
        CaptureContext.rehearse = rehearse  # type: ignore[method-assign]
        CaptureContext.capture = capture  # type: ignore[method-assign]


def _unrun(context: Any, function: Callable[[], Any]) -> Any:
    """What it returns while its stream is captured, for a graph that nobody runs."""
    with context.stream:
        context.stream.begin_capture(RELAXED)
        try:
            return function()
        finally:
            context.stream.end_capture()


# PyTorch ------------------------------------------------------------------------------------------


def torch_peak(work: Work, precision: str) -> int:
    """Bytes at the highest moment of a step of torch.nn, autograd and fused Adam."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    shape = (work.batch, *work.input_shape)
    half = None if precision == "TF32" else getattr(torch, precision)
    with FakeTensorMode(), _following() as storages:
        model = work.torch(_with_lstm_of_cudnn(torch.nn))
        params = list(model.parameters())
        slots = [torch.empty_like(param) for param in params for _ in range(2)]
        x = torch.zeros(shape, dtype=torch.int64) if work.vocabulary else torch.zeros(shape)
        y = torch.zeros(shape if work.vocabulary else shape[:1], dtype=torch.int64).flatten()
        if len(work.input_shape) == 3:
            x = x.permute(0, 3, 1, 2)
        for _ in range(2):
            storages.most = 0
            with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
                # a GPU's autocast has cross-entropy in float32, that of the CPU has not
                loss = torch.nn.functional.cross_entropy(model(x).float(), y)
            loss.backward()
            del loss
            for param in params:
                param.grad = None
        del slots
    return storages.most


def _following() -> Any:
    """A mode that knows which storages are alive: ``most`` is what they took at once, at most."""
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Following(TorchDispatchMode):  # type: ignore[misc]
        most = 0

        def __init__(self) -> None:
            super().__init__()
            self.alive: dict[int, tuple[Any, int]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            results = func(*args, **(kwargs or {}))
            self.alive = {k: one for k, one in self.alive.items() if not one[0].expired()}
            for one in tree_leaves(results):
                if hasattr(one, "untyped_storage"):
                    storage = one.untyped_storage()
                    blocks = -(-storage.nbytes() // 512)  # as CUDA's allocator rounds
                    self.alive[storage._cdata] = StorageWeakRef(storage), 512 * blocks
            self.most = max(self.most, sum(size for _, size in self.alive.values()))
            return results

    return Following()


def _with_lstm_of_cudnn(nn: Any) -> Any:
    """``torch.nn``, its LSTM as cuDNN takes memory for it."""
    import torch

    class Pass(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, units: int, layers: int, *weights: Any) -> Any:
            outputs = x.new_empty((*x.shape[:2], units))
            reserved = x.new_empty(RESERVED * layers * outputs.numel())
            ctx.save_for_backward(x, outputs, reserved, *weights)
            return outputs

        @staticmethod
        def backward(ctx: Any, delta: Any) -> Any:
            x, _, _, *weights = ctx.saved_tensors
            sizes = [one.numel() for one in weights]
            parts = delta.new_empty(sum(sizes)).split(sizes)
            grads = (part.view_as(one) for part, one in zip(parts, weights, strict=True))
            return x.new_empty(x.shape), None, None, *grads

    class LSTM(nn.LSTM):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            given = x, *self.parameters()
            if torch.is_autocast_enabled("cpu"):
                given = tuple(one.to(torch.get_autocast_dtype("cpu")) for one in given)
            return Pass.apply(given[0], self.hidden_size, self.num_layers, *given[1:]), None

    names = {name: getattr(nn, name) for name in dir(nn) if not name.startswith("_")}
    return SimpleNamespace(**names | {"LSTM": LSTM})


# On the host --------------------------------------------------------------------------------------


def numpy_peaks(work: Work, compile: bool | None, backend: str = "numpy") -> tuple[int, int]:
    """Bytes at the highest moment of a trainer's first step on NumPy, and of its third."""
    most, before = [], work if backend == "numpy:numba" else SMALL["GPT 6 blocks, small"]
    for _ in _steps(before, backend, compile):
        pass  # modules, which are memory, too, and what numba compiles are there then
    tracemalloc.start()
    for _ in _steps(work, backend, compile):
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
    tracemalloc.stop()
    return most[0], most[2]


def own_torch_peak(work: Work) -> int:
    """Bytes at the highest moment of a trainer's third step on PyTorch's arrays, call by call."""
    with _following() as storages:
        for _ in _steps(work, "torch", False):
            most, storages.most = storages.most, 0
    return most


def _steps(work: Work, backend: str, compile: bool | None) -> Iterator[None]:
    """Three steps, one after another."""
    from xpnn import Adam, Network, Trainer, cross_entropy

    network = Network(work.layers(), work.input_shape, backend)
    x, y = work.data()
    x, y = network.asarray(x), network.backend.asarray(y, "int32")
    trainer = Trainer(network, cross_entropy, Adam(RATE), compile=compile)
    for _ in range(3):
        trainer.step(x, y)
        yield


def on_cpu(title: str) -> list[int]:
    """NumPy's first step and the third, the third call by call and in loops; two of PyTorch.

    These are a trainer on its arrays, and torch.nn.
    """
    work = ON_CPU[title]
    replayed, (_, plain) = numpy_peaks(work, None), numpy_peaks(work, False)
    _, in_loops = numpy_peaks(work, None, "numpy:numba")
    return [*replayed, plain, in_loops, own_torch_peak(work), torch_peak(work, "TF32")]


# Both ---------------------------------------------------------------------------------------------


def counted(title: str, precision: str, sides: str) -> tuple[dict[str, Any] | None, int | None]:
    """``cupy_peaks`` and ``torch_peak`` of a work, as far as asked for."""
    work = (WORKS | SMALL)[title]
    phases = cupy_peaks(work, precision) if "CuPy" in sides else None
    return phases, torch_peak(work, precision) if "PyTorch" in sides else None


# Output -------------------------------------------------------------------------------------------


def row(title: str, phases: dict[str, dict[str, Any]] | None, peer: int | None) -> str:
    """A line of the table."""
    used, held = (
        None if phases is None else max(phase[key] for phase in phases.values())
        for key in ("used", "held")
    )
    cells = ["" if one is None else f"{one / 1e9:.2f}" for one in (used, held, peer)]
    cells += ["" if one is None or peer is None else f"{one / peer:.2f}" for one in (used, held)]
    return f"| {title} | {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print a table of works."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peaks", description=__doc__)
    parser.add_argument("--works", default="", help="only those whose title contains this")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="with commas")
    parser.add_argument("--small", action="store_true", help="with few units")
    parser.add_argument("--sides", default="CuPy,PyTorch", help="only one of the two")
    parser.add_argument("--alive", type=int, default=0, help="print so many that have most of it")
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    parser.add_argument("--cpu", action="store_true", help="three smaller works, run on the host")
    options = parser.parse_args(arguments)
    if options.cpu:
        print("| MB | numpy, first step | later | call by call | numba | torch | PyTorch |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for title in (one for one in ON_CPU if options.works in one):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                sizes = process.apply(on_cpu, (title,))
            cells = " | ".join(f"{size / 1e6:.1f}" for size in sizes)
            print(f"| {title} | {cells} |", flush=True)
        return
    found: dict[str, Any] = {}
    print("| | CuPy, in use, GB | CuPy's pools | PyTorch | in use / PyTorch | pools / PyTorch |")
    print("|---|--:|--:|--:|--:|--:|")
    for title in SMALL if options.small else WORKS:
        for precision in options.precisions.split(",") if options.works in title else ():
            name = f"{title}, {precision}"
            with multiprocessing.get_context("spawn").Pool(1) as process:
                phases, peer = process.apply(counted, (title, precision, options.sides))
            print(row(name, phases, peer), flush=True)
            for phase, one in (phases or {}).items() if options.alive else ():
                print(f"    {phase}: {one['used'] / 1e9:.3f} GB, pools {one['held'] / 1e9:.3f}")
                for asker, size in one["alive"].most_common(options.alive):
                    print(f"        {size / 1e6:9.1f} MB  {asker}")
            found[name] = {"CuPy": phases, "PyTorch": peer}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
