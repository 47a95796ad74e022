"""A network's twin in PyTorch: the same arrays, worked out by torch's functions, with autograd.

Of the layers only what they were made with is read: their arguments and the names of their arrays.
"""

import math

import numpy as np
import torch

from tests.fuzz.layers import RULES
from xpnn import L1, L2, ClipByGlobalNorm, ClipByValue, MaxNorm
from xpnn.optimizers import RMSprop, matrices_only
from xpnn.trees import as_tuple, one_or_tuple, tree_map


class Twin:
    """Has the parameters of a network as leaves of autograd, and steps by torch.optim.

    Args:
        network: its arrays are copied, its layers are only read.
        loss: ``(predictions, targets, weight) -> value``.
        optimizer: of xpnn, whose numbers are taken over, or None.
    """

    def __init__(self, network, loss, optimizer=None):
        self.network, self.loss = network, loss
        arrays = network.numpy_arrays()
        self.layers = dict(network.walk())
        self.names = {id(layer): name for name, layer in self.layers.items()}
        self.state = {k: torch.tensor(arrays[k]) for k in network.state}
        self.params = {k: torch.tensor(arrays[k], requires_grad=True) for k in network.params}
        self.trained = [name for name in self.params if not self._is_frozen(name)]
        self.clip = None if optimizer is None else optimizer.clip
        self.optimizer = None if optimizer is None or not self.trained else self._made(optimizer)

    def load(self, arrays):
        """Take over other values."""
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(torch.tensor(arrays[name]))

    def _is_frozen(self, name):
        return any(
            not layer.trainable
            for outer, layer in self.layers.items()
            if not outer or name.startswith(f"{outer}.")
        )

    # Training -------------------------------------------------------------------------------------

    def passes(self, x, y, weight):
        """Output, loss, and gradients of all parameters and of the input."""
        x = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        for param in self.params.values():
            param.grad = None
        output, value = self._loss(x, y, weight)
        if value.requires_grad:  # not where there is nothing to learn
            value.backward()
        found = {name: _grad(param) for name, param in self.params.items()}
        found |= {"input": x.grad.numpy()} if x.requires_grad else {}
        return {**found, "output": output.detach().numpy(), "loss": value.item()}

    def measure(self, x, y, weight):
        """In prediction mode, the output and the loss."""
        with torch.no_grad():
            output, value = self._loss(x, y, weight, training=False)
        return {"output": output.numpy()}, {"loss": value.item()}

    def way_back(self, x, deltas):
        """Outputs, and what comes back of deltas to inputs and parameters; the state behind it."""
        x = [torch.tensor(one, requires_grad=one.dtype.kind == "f") for one in x]
        for param in self.params.values():
            param.grad = None
        outputs = as_tuple(self.forward(one_or_tuple(x), training=True))
        pairs = zip(outputs, deltas, strict=True)
        value = sum((one * torch.tensor(delta)).sum() for one, delta in pairs)
        if value.requires_grad:
            value.backward()
        found = {name: _grad(self.params[name]) for name in self.params}
        found |= {f"input {k}": _grad(one) for k, one in enumerate(x) if one.requires_grad}
        found |= {f"output {k}": one.detach().numpy() for k, one in enumerate(outputs)}
        return found | {name: one.numpy().copy() for name, one in self.state.items()}

    def outputs(self, x):
        """In prediction mode."""
        with torch.no_grad():
            found = self.forward(one_or_tuple([torch.tensor(one) for one in x]))
        return [one.numpy() for one in as_tuple(found)]

    def _loss(self, x, y, weight, training=True):
        x, y, weight = tree_map(as_tensor, (x, y, weight))
        output = self.forward(x, training)
        return output, self.loss(output, y, weight)

    def step(self, x, y, weight):
        """One step with penalties, limits and constraints; returns the loss."""
        for param in self.params.values():
            param.grad = None
        _, value = self._loss(x, y, weight)
        for name, rule in self._rules():
            w = self.params[name]
            if isinstance(rule, L1):
                value = value + rule.strength * w.abs().sum()
            elif isinstance(rule, L2):
                value = value + rule.strength / 2 * (w * w).sum()
        if value.requires_grad:  # not where there is nothing to learn
            value.backward()
        self._limit()
        if self.optimizer is not None:
            torch.set_default_dtype(torch.float64)  # that of NAdam's products
            self.optimizer.step()
            torch.set_default_dtype(torch.float32)
        for name, rule in self._rules():
            if isinstance(rule, MaxNorm):
                self._shorten(self.params[name], rule)
        return value.item()

    def _rules(self):
        for name in self.trained:
            layer, _, _ = name.rpartition(".")
            if self.params[name].ndim > 1:
                yield from ((name, rule) for rule in self.layers[layer].regularizers)

    def _limit(self):
        grads = [self.params[name].grad for name in self.trained]
        grads = [grad for grad in grads if grad is not None]
        if isinstance(self.clip, ClipByGlobalNorm) and grads:
            length = math.sqrt(sum((grad * grad).sum().item() for grad in grads))
            for grad in grads:
                grad *= min(1.0, self.clip.limit / length) if length else 1.0
        if isinstance(self.clip, ClipByValue):
            for grad in grads:
                grad.clamp_(-self.clip.limit, self.clip.limit)

    def _shorten(self, w, rule):
        with torch.no_grad():
            axes = [axis for axis in range(w.ndim) if axis != rule.axis % w.ndim]
            length = (w * w).sum(axes, keepdim=True).sqrt()
            w *= torch.where(length > rule.limit, rule.limit / length, 1.0)

    def _made(self, ours):
        """The optimizer of torch.optim."""
        numbers = dict(ours.hyper)
        decay = numbers.pop("weight_decay")
        options = {"lr": numbers.pop("rate")}
        if "beta1" in numbers:
            options["betas"] = numbers.pop("beta1"), numbers.pop("beta2")
        theirs = {"epsilon": "eps"}
        if isinstance(ours, RMSprop):
            theirs["rho"] = "alpha"
        options |= {theirs.get(name, name): value for name, value in numbers.items()}
        if getattr(ours, "nesterov", False):
            options["nesterov"] = True
        groups = [
            {
                "params": [
                    self.params[k] for k in self.trained if (self.params[k].ndim > 1) == wide
                ],
                "weight_decay": decay if wide or ours.decays is not matrices_only else 0.0,
            }
            for wide in (False, True)
        ]
        groups = [group for group in groups if group["params"]]
        return getattr(torch.optim, type(ours).__name__)(groups, **options)

    # Layers ---------------------------------------------------------------------------------------

    def forward(self, x, training=False):
        self.training = training
        return self._run("", self.network.root, x, None)

    def _run(self, name, layer, Z, mask):
        """The output of a layer; ``mask`` is True at the steps that are no padding."""
        for kind in type(layer).__mro__:
            if kind in RULES:
                return RULES[kind](self, name, layer, Z, mask)
        raise NotImplementedError(f"no twin of {layer!r}")

    def array(self, name, key):
        return self.params.get(f"{name}.{key}" if name else key)

    def inside(self, name, layer, Z, mask):
        """A function for each layer inside, from its input to its output."""
        for key, child in layer.children().items():
            yield lambda z, key=key, child=child: self._run(
                f"{name}.{key}" if name else key, child, z, mask
            )


def as_tensor(array):
    return None if array is None else torch.as_tensor(array)


def _grad(param):
    return np.zeros(param.shape) if param.grad is None else param.grad.numpy().copy()
