"""Networks written as ONNX models, and these models run by onnxruntime."""

import numpy as np

from tests.layers.table import Ids
from xpnn.network import Network


def exported(network, folder, **options):
    """The model of a network, ready to run."""
    path = folder / "network.onnx"
    network.to_onnx(path, **options)
    return session_of(path)


def session_of(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs_of(session, **inputs):
    """By name."""
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def model_in(path):
    """What a file holds."""
    import onnx

    return onnx.load(path)


def operators_in(path):
    """Which there are in a file."""
    return {node.op_type for node in model_in(path).graph.node}


def of_random_values(layers, input_shape, backend="numpy", dtype="float32"):
    """A network none of whose parameters, means and variances is 0 or 1."""
    rng, network = np.random.default_rng(0), Network(layers, input_shape, backend, dtype=dtype)
    state = network.numpy_arrays()
    network.load({name: _drawn(name, one, rng) for name, one in state.items()})
    return network


def _drawn(name, one, rng):
    if not np.ndim(one):
        return one
    drawn = 0.5 * rng.standard_normal(np.shape(one))
    return 0.5 + np.abs(drawn) if "var" in name else drawn


def batch_of(count, shape, rng):
    if isinstance(shape, Ids):
        return rng.integers(0, 5, (count, *shape))
    return rng.standard_normal((count, *shape)).astype(np.float32)
