"""Checks for layers, losses and backends of your own, the ones that xpnn's own tests use."""

from xpnn.testing.curves import training_curve
from xpnn.testing.gradients import check_gradients
from xpnn.testing.report import GradientReport, GradientRow

__all__ = ["GradientReport", "GradientRow", "check_gradients", "training_curve"]
