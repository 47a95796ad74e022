"""Several processes have the curve of one: losses to 1e-6, and the same bits in each of them."""

import json

import pytest

from tests.conftest import needs
from tests.distributed.curves import EPOCHS, SHAPES, main
from tests.distributed.test_engines import as_by_torchrun, by_mpirun, needs_mpi

RUNS = {
    "mpi": ("numpy", by_mpirun, needs_mpi),
    "torch": ("torch", as_by_torchrun, needs("torch")),
}


@pytest.mark.parametrize(
    "engine", [pytest.param(engine, marks=mark) for engine, (*_, mark) in RUNS.items()]
)
def test_two_processes_have_the_curve_of_one(engine, tmp_path):
    backend, start, _ = RUNS[engine]
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    main(str(alone), backend)
    specs = dict.fromkeys((backend, "numpy"))
    start(2, "-m", "tests.distributed.curves", str(together), backend, engine, *specs)
    (one,) = (json.loads(path.read_text()) for path in alone.iterdir())
    several = [json.loads(path.read_text()) for path in together.glob("*.json")]
    assert len(several) == 2
    for kind in SHAPES:
        wanted = one[kind]
        assert len({found[kind]["bits"] for found in several}) == 1
        for found in several:
            assert found[kind]["steps"] == wanted["steps"] == 7 * EPOCHS
            assert found[kind]["compiled"] == wanted["compiled"]
            assert found[kind]["val_accuracy"] == wanted["val_accuracy"]
            for name in ("loss", "val_loss"):
                assert found[kind][name] == pytest.approx(wanted[name], rel=1e-6, abs=0)
