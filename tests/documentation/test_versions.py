"""``make docs-version`` puts releases beside each other, and their pages find the list of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest

yaml = pytest.importorskip("yaml")
pytest.importorskip("mike")
pytest.importorskip("material")

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "VENV")
"""What a make that runs the tests tells those below it."""


def run(*command, folder):
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=own)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What a server is given when 0.1.0 and 0.2.0 were released, of a site of one page."""
    folder = tmp_path_factory.mktemp("released")
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)
    small = {"site_name": "small", "theme": {"name": "material"}, "extra": settings["extra"]}
    (folder / "mkdocs.yml").write_text(yaml.dump(small))
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    (folder / ".gitignore").write_text("site/\n")
    for path in ("docs", "xpnn"):
        (folder / path).mkdir()
    run("git", "init", "--quiet", folder=folder)
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        run("git", "config", key, value, folder=folder)
    for version in ("0.1.0", "0.2.0"):
        (folder / "docs" / "index.md").write_text(f"# This is {version}\n")
        (folder / "xpnn" / "version.py").write_text(f'"""Says."""\n\nVERSION = "{version}"\n')
        run("git", "add", ".", folder=folder)
        run("git", "commit", "--quiet", "-m", version, folder=folder)
        installed = ("-o", ".venv/.xpnn-docs")
        run("make", *installed, "docs-version", f"BIN={BIN}", folder=folder)
    run("git", "worktree", "add", "--quiet", "published", "pages", folder=folder)
    return folder / "published"


def page(path):
    return (path / "index.html").read_text()


def test_each_release_has_its_own_pages(published):
    assert "This is 0.1.0" in page(published / "0.1.0")
    assert "This is 0.2.0" in page(published / "0.2.0")


def test_the_list_of_releases_lies_where_pages_look_for_it(published):
    listed = json.loads((published / "versions.json").read_text())
    assert [one["version"] for one in listed] == ["0.2.0", "0.1.0"]
    assert [one["aliases"] for one in listed] == [["latest"], []]
    for one in listed:
        text = page(published / one["version"])
        settings = json.loads(re.search(r'id="__config"[^>]*>(.*?)</script>', text)[1])
        assert settings["version"]["provider"] == "mike"
        base = urljoin(f"https://host/{one['version']}/", settings["base"] + "/")
        assert urljoin(base, "../versions.json") == "https://host/versions.json"


def test_who_asks_for_none_is_led_to_the_latest(published):
    assert "latest" in page(published)
    assert "0.2.0" in page(published / "latest")
    assert "0.1.0" not in page(published / "latest")
