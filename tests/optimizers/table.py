"""The table of optimizers, a line for each configuration, and runs of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from xpnn.backends import Backend
from xpnn.optimizers import (
    LAMB,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

Arrays = dict[str, np.ndarray]
RATE = 0.05


@dataclass
class Case:
    """One configuration of an optimizer.

    Attributes:
        make: takes further options, such as ``weight_decay``.
        reference: the counterpart in torch.optim, by name, with its options; or, where torch has
            none, the paper's formula: takes a weight decay, yields what ``steps_by_torch`` does.
        schedulable: a value for each hyperparameter, to be reached by a schedule.
        valley: rate at which it gets along the valley of ``rosenbrock``.
        slots: what torch.optim calls each of its slots.
    """

    make: Callable[..., Optimizer]
    reference: tuple[str, dict[str, Any]] | Callable[[float], Iterator[Any]]
    schedulable: dict[str, float]
    valley: float
    slots: dict[str, str] = field(default_factory=dict)


def bound(kind: type[Optimizer], rate: float = RATE, **options: Any) -> Callable[..., Optimizer]:
    return lambda **more: kind(**{"rate": rate, **options, **more})


BETAS = {"beta1": 0.5, "beta2": 0.9}
MEANS, MOMENTUM = {"m": "exp_avg", "v": "exp_avg_sq"}, {"v": "momentum_buffer"}
CASES = {
    "sgd": Case(bound(SGD), ("SGD", {}), {}, 0.02),
    "momentum": Case(
        bound(SGD, momentum=0.9), ("SGD", {"momentum": 0.9}), {"momentum": 0.5}, 0.02, MOMENTUM
    ),
    "nesterov": Case(
        bound(SGD, momentum=0.9, nesterov=True),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        {"momentum": 0.5},
        0.01,
        MOMENTUM,
    ),
    "adagrad": Case(bound(Adagrad), ("Adagrad", {}), {"epsilon": 0.1}, 0.2, {"s": "sum"}),
    "rmsprop": Case(
        bound(RMSprop, rho=0.9),
        ("RMSprop", {"alpha": 0.9}),
        {"rho": 0.5, "epsilon": 0.1},
        0.01,
        {"s": "square_avg"},
    ),
    "rmsprop-momentum": Case(
        bound(RMSprop, rho=0.9, momentum=0.9),
        ("RMSprop", {"alpha": 0.9, "momentum": 0.9}),
        {"rho": 0.5, "momentum": 0.5, "epsilon": 0.1},
        0.005,
        {"s": "square_avg", **MOMENTUM},
    ),
    "adam": Case(bound(Adam), ("Adam", {}), {**BETAS, "epsilon": 0.1}, 0.2, MEANS),
    "adamw": Case(
        bound(AdamW, weight_decay=0.0), ("AdamW", {}), {**BETAS, "epsilon": 0.1}, 0.2, MEANS
    ),
    "nadam": Case(
        bound(NAdam), ("NAdam", {}), {**BETAS, "epsilon": 0.1, "momentum_decay": 0.1}, 0.1, MEANS
    ),
    "adadelta": Case(
        bound(Adadelta),
        ("Adadelta", {}),
        {"rho": 0.5, "epsilon": 0.1},
        10.0,
        {"s": "square_avg", "d": "acc_delta"},
    ),
    "adamax": Case(
        bound(Adamax),
        ("Adamax", {}),
        {**BETAS, "epsilon": 0.1},
        0.2,
        {"m": "exp_avg", "u": "exp_inf"},
    ),
    "radam": Case(
        bound(RAdam, beta2=0.95),
        ("RAdam", {"betas": (0.9, 0.95)}),
        {"beta1": 0.5, "beta2": 0.6, "epsilon": 0.1},
        0.02,
        MEANS,
    ),
    "adafactor": Case(
        bound(Adafactor),
        ("Adafactor", {"eps": (1e-15, 1e-3)}),  # torch squares the first
        {"power": 0.5, "epsilon1": 0.1, "epsilon2": 0.5, "threshold": 0.5},
        0.1,
        {"rows": "row_var", "columns": "col_var", "v": "variance"},
    ),
    "lamb": Case(
        bound(LAMB, weight_decay=0.0),
        lambda decay: steps_of_lamb(decay),
        {**BETAS, "epsilon": 0.1},
        0.1,
        MEANS,
    ),
    "muon": Case(
        bound(Muon, weight_decay=0.0),  # torch's iterates in bfloat16
        lambda decay: steps_of_muon(decay),
        {**BETAS, "epsilon": 0.1, "momentum": 0.5},
        0.2,
        MEANS,
    ),
    "lion": Case(bound(Lion), lambda decay: steps_of_lion(decay), BETAS, 0.02, {"m": "exp_avg"}),
}

each_optimizer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def start(dtype: str = "float64") -> Arrays:
    """Parameters: a matrix and a bias."""
    rng = np.random.default_rng(1)
    return {
        "weight": rng.normal(size=(3, 2)).astype(dtype),
        "bias": rng.normal(size=2).astype(dtype),
    }


def gradients(dtype: str = "float64", steps: int = 20) -> list[Arrays]:
    """One set for each step: of all sizes, and one number that is always zero."""
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(steps):
        weight, bias = rng.normal(size=(3, 2)) * 10.0 ** rng.integers(-3, 2), rng.normal(size=2)
        weight[0, 0] = 0
        drawn.append({"weight": weight.astype(dtype), "bias": bias.astype(dtype)})
    return drawn


def moved(arrays: Arrays, backend: Backend, dtype: str | None = None) -> dict[str, Any]:
    return {name: backend.asarray(array.copy(), dtype) for name, array in arrays.items()}


def on_host(arrays: dict[str, Any], backend: Backend) -> Arrays:
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def trained(
    optimizer: Optimizer, backend: Backend, params: Arrays, grads: list[Arrays]
) -> tuple[Arrays, dict[str, Any]]:
    """Parameters, on the host, and the optimizer state after a step for each set of gradients."""
    with backend.on_device():
        held, opt_state = arrays_after(optimizer, backend, params, grads)
        return on_host(held, backend), opt_state


def arrays_after(
    optimizer: Optimizer, backend: Backend, params: Arrays, grads: list[Arrays]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same, not brought to the host."""
    held, update = moved(params, backend), optimizer.make_update(backend)
    opt_state = optimizer.init(held, backend)
    for one in grads:
        held, opt_state = update(held, moved(one, backend), opt_state)
    return held, opt_state


def made_update(optimizer: Optimizer, backend: Backend) -> Callable[..., Any]:
    """As a trainer makes it: compiled on JAX, which otherwise compiles each call by itself."""
    return backend.compiled(optimizer.make_update(backend), wanted=backend.name == "jax")


def steps_by_torch(case: Case, weight_decay: float) -> Iterator[tuple[Arrays, dict[str, Arrays]]]:
    """Parameters and slots after each step of torch.optim in float64, or by the formula."""
    if callable(case.reference):
        yield from case.reference(weight_decay)
        return
    import torch

    name, options = case.reference
    params = {k: torch.nn.Parameter(torch.from_numpy(v)) for k, v in start().items()}
    optimizer = getattr(torch.optim, name)(
        params.values(), lr=RATE, weight_decay=weight_decay, **options
    )
    for grads in gradients():
        for key, param in params.items():
            param.grad = torch.from_numpy(grads[key])
        optimizer.step()
        slots = {
            slot: {
                key: optimizer.state[param][theirs].numpy()
                for key, param in params.items()
                if theirs in optimizer.state[param]
            }
            for slot, theirs in case.slots.items()
        }
        yield {key: param.detach().numpy() for key, param in params.items()}, slots


def trained_by_torch(case: Case, weight_decay: float) -> Arrays:
    """The parameters after the last of these steps."""
    return last_of(steps_by_torch(case, weight_decay))


def last_of(steps: Iterator[tuple[Arrays, Any]]) -> Arrays:
    """The parameters that steps end with."""
    return [params for params, _ in steps][-1]


def steps_of_lion(weight_decay: float) -> Iterator[tuple[Arrays, dict[str, Arrays]]]:
    """Chen et al., 2023, algorithm 2, line by line."""
    theta, beta1, beta2, lr = start(), 0.9, 0.99, RATE
    m = {key: np.zeros_like(value) for key, value in theta.items()}
    for grads in gradients():
        for key, g in grads.items():
            c = beta1 * m[key] + (1 - beta1) * g
            theta[key] = theta[key] - lr * (np.sign(c) + weight_decay * theta[key])
            m[key] = beta2 * m[key] + (1 - beta2) * g
        yield theta, {"m": m}


def adam_s(m: Any, v: Any, g: Any, t: int, epsilon: float) -> tuple[Any, ...]:
    """Both means, and their ratio without the pull of their start."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return m, v, m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + epsilon)


def steps_of_lamb(weight_decay: float) -> Iterator[tuple[Arrays, dict[str, Arrays]]]:
    """You et al., 2020, algorithm 2, line by line, with phi(z) = z."""
    x = start()
    m, v = ({key: np.zeros_like(value) for key, value in x.items()} for _ in "mv")
    for t, grads in enumerate(gradients(), start=1):
        for key, g in grads.items():
            m[key], v[key], r = adam_s(m[key], v[key], g, t, 1e-6)
            update = r + weight_decay * x[key]
            ratio = np.linalg.norm(x[key]) / np.linalg.norm(update)
            x[key] = x[key] - RATE * ratio * update
        yield x, {"m": m, "v": v}


def steps_of_muon(weight_decay: float) -> Iterator[tuple[Arrays, dict[str, Arrays]]]:
    """Jordan, 2024, by a decomposition whose singular values go through the polynomial."""
    w = start()
    m = {key: np.zeros_like(value) for key, value in w.items()}
    v = {"bias": np.zeros(2)}
    for t, grads in enumerate(gradients(), start=1):
        w = {key: value - RATE * weight_decay * value for key, value in w.items()}
        m["bias"], v["bias"], step = adam_s(m["bias"], v["bias"], grads["bias"], t, 1e-8)
        g = grads["weight"]
        m["weight"] = 0.95 * m["weight"] + 0.05 * g
        left, values, right = np.linalg.svd(0.05 * g + 0.95 * m["weight"], full_matrices=False)
        values = values / np.sqrt(np.sum(values**2))
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        size = 0.2 * np.sqrt(3)  # Liu et al., 2025
        w = {
            "weight": w["weight"] - RATE * size * (left * values) @ right,
            "bias": w["bias"] - RATE * step,
        }
        yield w, {"m": m, "v": v}
