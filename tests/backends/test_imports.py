"""What is imported when, and work across threads and processes."""

import os
import textwrap

import numpy as np
import pytest

from tests.backends.process import python
from xpnn.backends import Backend, get_backend
from xpnn.layers import Dense, Dropout, ReLU
from xpnn.network import Network

pytestmark = pytest.mark.by_what_is_installed

# What is imported ---------------------------------------------------------------------------------

HEAVY = "torch", "jax", "cupy", "matplotlib", "scipy", "array_api_strict", "sklearn"


def imported_after(code):
    report = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    return python(f"{code}\n{report}")


def test_importing_xpnn_imports_no_library():
    assert (
        imported_after("import xpnn, xpnn.backends, xpnn.layers, xpnn.losses, xpnn.network") == "[]"
    )


def test_training_on_numpy_imports_no_other_library():
    code = (
        "import numpy as np\n"
        "from xpnn.layers import Dense, ReLU\n"
        "from xpnn.testing import training_curve\n"
        "training_curve(lambda: [Dense(3), ReLU(), Dense(2)], (4,), steps=2)"
    )
    assert imported_after(code) == "[]"


def test_a_backend_is_imported_when_it_is_asked_for():
    code = "from xpnn import get_backend\nget_backend('array-api-strict')"
    assert imported_after(code) == "['array_api_strict']"


def test_recognizing_an_array_imports_no_library():
    code = """
        import numpy as np
        from xpnn import Dense, Network
        from xpnn.backends import BACKENDS, backend_of
        from xpnn.backends.registry import backend_class

        class Unknown:
            shape, dtype = (2, 3), np.dtype("float32")

            def __array__(self, dtype=None, copy=None):
                return np.ones(self.shape, dtype)

        array, network = Unknown(), Network([Dense(2)], (3,))
        assert backend_of(array).name == "numpy"
        assert np.array_equal(network.predict(array), network.predict(np.ones((2, 3))))
        assert not any(backend_class(name).recognizes(array) for name in BACKENDS)
    """
    assert imported_after(textwrap.dedent(code)) == "[]"


def test_numpy_works_without_scipy():
    code = """
        import sys
        sys.modules["scipy"] = None
        import math, numpy as np
        from xpnn import get_backend
        x = np.linspace(-5, 5, 101)
        found = get_backend("numpy").erfc(x)
        print(float(np.max(np.abs(found - [math.erfc(v) for v in x]))))
    """
    assert float(python(code)) < 2e-15


# Threads and processes ----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_still_sweep_large_arrays():
    code = """
        import os, warnings
        import numpy as np
        from xpnn import get_backend
        warnings.simplefilter("ignore")  # forking beside threads is what is tested here
        double = get_backend("numpy").elementwise(lambda xp, x: 2 * x)
        x = np.ones(3_000_000, dtype=np.float32)
        assert double(x).sum() == 6_000_000
        child = os.fork()
        if child == 0:
            os._exit(0 if double(x).sum() == 6_000_000 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert python(code) == "0"


def test_threads_may_train_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(0).standard_normal((3000, 400)).astype(np.float32)

    def forward(seed):
        net = Network([Dense(400), ReLU(), Dropout(0.5)], (400,), seed=seed)
        return net.forward(x, training=True)

    alone = [forward(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(forward, range(3)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_backend_of_ones_own_will_do():
    class Counting(type(get_backend("numpy"))):
        """NumPy, counting what is asked of it."""

        name, asked = "counting", 0

        def asarray(self, values, dtype=None):
            self.asked += 1
            return super().asarray(values, dtype)

    own = Counting()
    assert isinstance(own, Backend)
    net = Network([Dense(3)], (4,), own)
    assert net.backend is own
    net(np.ones((2, 4)))
    assert own.asked > 2
