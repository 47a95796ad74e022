"""Layers that bring the signal to mean 0 and variance 1, each over its own choice of axes.

All of them do the same with what they average over; ``Normalization`` has the equations. Features
are the last axis. In half precision, statistics are computed in float32. The squares of what is
normalised have to fit into that: from about 1e19 on, or 1e154 in float64, outputs are NaN.
"""

from xpnn.layers.normalization.base import Normalization, like, square_rule, wide_product_rule
from xpnn.layers.normalization.over_batch import BatchNorm
from xpnn.layers.normalization.over_features import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Normalization",
    "RMSNorm",
    "like",
    "square_rule",
    "wide_product_rule",
]
