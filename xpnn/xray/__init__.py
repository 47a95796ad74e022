"""What happens in a training step, layer by layer, to be looked at."""

from xpnn.xray.explanation import Explanation
from xpnn.xray.following import XRay
from xpnn.xray.recording import explain
from xpnn.xray.views import LayerInfo, LayerView, StepView

__all__ = ["Explanation", "LayerInfo", "LayerView", "StepView", "XRay", "explain"]
