"""Writes the gallery while the site is built: what each example says of itself, and its code.

Those of ``DRAWN`` are run, in small, for the picture that they draw.
"""

import ast
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PAGE = "gallery.md"
GROUPS = {
    "The guide's gate and digits": "01_nand_gate 02_mnist 03_nielsen",
    "Images": "decision_boundary mnist_cnn autoencoder unet vae gan siamese same_digit",
    "Text and sequences": "char_lm onnx_writer sequence_lstm sort_sequences",
    "Tables": "dataframe entity_embeddings search_a_table",
    "Training in other ways": "own_layer two_heads reinforce watched_runs",
}
DRAWN = {"decision_boundary": "spirals.png", "autoencoder": "autoencoder.png"}
OF_TUTORIALS = {
    "mnist_cnn": "tutorials/digits.svg",
    "own_layer": "tutorials/snake.svg",
}
"""Pictures that tutorials draw of the same."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page, and the pictures that examples draw."""
    for name, picture in DRAWN.items():
        files.append(File.generated(config, picture, content=drawn(name, picture)))
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """The gallery in Markdown."""
    lines = [
        "---\nhide: [navigation]\n---",
        "",
        "# Gallery",
        "",
        "One idea a file, in `examples/`, each a program of some sixty lines that runs on every"
        " backend.",
        "",
    ]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", *(example(name) for name in names.split())]
    return "\n".join(lines)


def example(name: str) -> str:
    """What one says of itself, with its picture, and its code folded up."""
    code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    story = ast.get_docstring(ast.parse(code)) or ""
    title, _, rest = story.partition("\n\n")
    picture = DRAWN.get(name) or OF_TUTORIALS.get(name)
    shown = f"![{title}]({picture}){{ .drawn }}\n\n" if picture else ""
    folded = textwrap.indent(f"```py\n{code}```", "    ")
    return (
        f"### {title.removesuffix('.')}\n\n{shown}{rest}\n\n"
        f'??? quote "`examples/{name}.py`"\n\n{folded}\n'
    )


def drawn(name: str, picture: str) -> bytes:
    """The picture that an example draws, after few epochs."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, EXAMPLES / f"{name}.py", "--epochs", "40", "--picture", picture],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "agg"},
            capture_output=True,
            check=True,
        )
        return (Path(folder) / picture).read_bytes()
