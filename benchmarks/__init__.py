"""Times of whole training steps, xpnn's backends beside PyTorch; run with ``make bench``."""

import os
import sys

if "numpy" not in sys.modules:  # afterwards it would change child processes alone
    for _variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(_variable, None)  # where set, they make NumPy choose slow matrix products
