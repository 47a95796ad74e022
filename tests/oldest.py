"""Prints the oldest release of each package that pyproject.toml asks for, for pip.

>>> oldest(["numpy>=2.1", "mkl>=2025; sys_platform == 'linux'", "ruff~=0.17.6", "jax"])
['numpy==2.1', 'ruff==0.17.6']
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

CORE = ("test",)
"""Extras beside what is always installed."""


def oldest(wanted: Iterable[str]) -> list[str]:
    """The lower ends of such requirements; what goes by the machine, or has none, is left out."""
    plain = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=|~=)([\d.]+)(?:,<[\d.]+)?")
    found = [plain.fullmatch(one.strip()) for one in wanted]
    return [f"{one[1]}=={one[2]}" for one in found if one]


def main() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = [one for name in CORE for one in project["optional-dependencies"][name]]
    print(*oldest([*project["dependencies"], *extras]), sep="\n")


if __name__ == "__main__":
    main()
