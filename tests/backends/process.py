"""A fresh Python, for what can only be seen in one."""

import os
import subprocess
import sys
import textwrap

import xpnn

PYTHON_PATH = os.pathsep.join(
    filter(None, [os.path.dirname(os.path.dirname(xpnn.__file__)), os.environ.get("PYTHONPATH")])
)


def python(code, **environment):
    """What a fresh Python prints for ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
