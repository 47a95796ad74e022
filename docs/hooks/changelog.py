"""Makes a page of ``CHANGELOG.md``, which lies beside the code."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

CHANGELOG = Path(__file__).parent.parent.parent / "CHANGELOG.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page, of which searches find nothing: it is about what was."""
    text = CHANGELOG.read_text(encoding="utf-8").replace("](docs/", "](")
    content = f"---\nsearch:\n  exclude: true\n---\n\n{text}"
    files.append(File.generated(config, "changelog.md", content=content))
    return files
