"""Batches from the host, of which each device is sent its own rows alone."""

import numpy as np

from xpnn.backends.jax.devices import Mesh, put
from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.staging import Staging
from xpnn.typing import Array


class CutStaging(Staging):
    """Brings batches to several devices, cut as a step wants them."""

    def __init__(self, backend: Backend, mesh: Mesh):
        super().__init__(backend)
        self.mesh = mesh

    def _put(self, batch: np.ndarray) -> Array:
        return put(batch, self.mesh.of_batch(batch))
