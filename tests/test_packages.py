"""What packages say of themselves is the same everywhere; what is declared is tested."""

import tomllib
from pathlib import Path

import pytest

import xpnn
from tests.oldest import oldest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version():
    assert PROJECT["version"] == xpnn.__version__
    assert f"\n## [{xpnn.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_of_this_version_and_licence():
    yaml = pytest.importorskip("yaml", reason="CITATION.cff is read by PyYAML")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"]) == (xpnn.__version__, PROJECT["license"])
    assert cited["authors"] == PROJECT["authors"]
    assert (
        cited["title"] == f"xpnn: {PROJECT['description'][0].lower()}{PROJECT['description'][1:]}"
    )
    assert cited["keywords"] == PROJECT["keywords"]


def test_versions_of_python_that_are_promised_are_tested():
    said = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    makefile = (ROOT / "Makefile").read_text()
    assert f"\nVERSIONS ?= {' '.join(said)}\n" in makefile
    assert PROJECT["requires-python"] == f">={said[0]}"


def test_every_dependency_has_an_oldest_release():
    assert len(oldest(PROJECT["dependencies"])) == len(PROJECT["dependencies"])
    extra = PROJECT["optional-dependencies"]["test"]
    assert len(oldest(extra)) == len(extra)
