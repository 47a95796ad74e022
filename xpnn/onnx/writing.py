"""A traced graph as a model of ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.onnx.tape import Body, Node, Value
from xpnn.onnx.tracing import Graph
from xpnn.version import VERSION


def model_of(graph: Graph, opset: int, *, description: str, metadata: Mapping[str, str]) -> Any:
    """A ``ModelProto``.

    Args:
        opset: the version of ONNX's operators.
        description: for readers.
        metadata: texts by name.
    """
    from onnx import helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.asarray(one), key) for key, one in graph.constants.items()
    ]
    made = helper.make_graph(
        [_node(one) for one in graph.nodes],
        "network",
        _values(graph.inputs),
        _values(graph.outputs),
        constants,
    )
    version = helper.make_opsetid("", opset)
    model = helper.make_model(
        made,
        opset_imports=[version],
        ir_version=helper.find_min_ir_version_for([version]),
        producer_name="xpnn",
        producer_version=VERSION,
        doc_string=description,
    )
    helper.set_model_props(model, dict(metadata))
    return model


def _node(node: Node) -> Any:
    from onnx import helper

    attributes = dict(node.attributes)
    if "to" in attributes:
        attributes["to"] = _tensor_type(attributes["to"])
    if node.body is not None:
        attributes["body"] = _body(node.body)
    return helper.make_node(
        node.operator, node.inputs, node.outputs, name=f"{node.outputs[0]}", **attributes
    )


def _body(body: Body) -> Any:
    from onnx import helper

    nodes = [_node(one) for one in body.nodes]
    return helper.make_graph(nodes, "step", _values(body.inputs), _values(body.outputs))


def _values(values: Sequence[Value]) -> list[Any]:
    from onnx import helper

    return [
        helper.make_tensor_value_info(one.name, _tensor_type(one.dtype), one.shape)
        for one in values
    ]


def _tensor_type(dtype: Any) -> int:
    from onnx import helper

    from xpnn.onnx.dtypes import bfloat16

    own = bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    return int(helper.np_dtype_to_tensor_dtype(own))
