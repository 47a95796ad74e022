"""array-api-strict refuses what it refuses by itself, however much ``conftest.py`` speeds it up."""

import inspect
import subprocess
import sys

from tests.conftest import needs

pytestmark = needs("array-api-strict")


def outcomes():
    """What comes of arrays of all dtypes and Python's numbers, in pairs: a dtype, or an error."""
    import itertools
    import operator

    import array_api_strict as xp
    import numpy as np

    operators = (
        operator.add,
        operator.and_,
        operator.lt,
        operator.truediv,
        operator.lshift,
        operator.eq,
    )
    kinds = xp.__array_namespace_info__().dtypes().values()
    arrays = [xp.ones(2, dtype=kind) for kind in kinds]
    found = []

    def note(function, *given):
        try:
            found.append(str(function(*given).dtype))
        except (TypeError, OverflowError) as error:
            found.append(repr(error))

    for function, one in itertools.product(operators, arrays):
        for other in (*arrays, True, 1, 300, 1.0, 1j):
            note(function, one, other)
    for one in arrays:
        for function in (operator.neg, operator.invert, xp.sqrt, xp.sum, abs):
            note(function, one)
    for code in "efdgFDbBhHiIqQ?SOM":
        note(lambda code=code: type(arrays[0])._new(np.zeros(2, code), device=None))
    return found


def test_what_is_refused_is_refused_sped_up():
    script = f"{inspect.getsource(outcomes)}\nprint(outcomes())"
    by_itself = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert by_itself.returncode == 0, by_itself.stderr
    found = outcomes()
    assert by_itself.stdout == f"{found}\n"
    assert sum("Error" in one for one in found) > 100
