"""NumPy steps, written down once and replayed in fixed memory."""

from xpnn.backends.replay.binding import bind_each
from xpnn.backends.replay.fusion import bind_fused
from xpnn.backends.replay.program import Replayed
from xpnn.backends.replay.stand_ins import Recorded
from xpnn.backends.replay.tape import recordable

__all__ = ["Recorded", "Replayed", "bind_each", "bind_fused", "recordable"]
