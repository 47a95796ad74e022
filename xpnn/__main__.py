"""``python -m xpnn`` is the command ``xpnn``."""

import sys

from xpnn.cli import main

sys.exit(main())
