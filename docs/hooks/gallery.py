"""Writes the gallery while the site is built: what each example says of itself, and its code.

Those of ``PICTURES`` are run, in small, for a picture of what they have learned.
"""

import ast
import re
import textwrap

from gallery_pictures import EXAMPLES, PICTURES, drawn
from kept import DRAFT, kept
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGE = "gallery.md"
COMMANDS = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
"""How to run an example, in its docstring."""
GROUPS = {
    "The guide's gate and digits": "01_nand_gate 02_mnist 03_nielsen",
    "Images": "decision_boundary mnist_cnn autoencoder unet vae gan siamese same_digit",
    "Text and sequences": "char_lm onnx_writer sequence_lstm sort_sequences",
    "Tables": "dataframe entity_embeddings search_a_table",
    "Training in other ways": "own_layer two_heads reinforce watched_runs",
}
OF_TUTORIALS = {
    "mnist_cnn": ("tutorials/confusion.svg", "Which digits are taken for which"),
    "own_layer": ("tutorials/snake.svg", "What two networks make of a wave beyond their data"),
}
"""Pictures that tutorials draw of the same, and what they show."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page, and the pictures that examples draw."""
    for name in PICTURES:
        content = kept(f"{name}.png", drawn, name, DRAFT)
        files.append(File.generated(config, picture_of(name), content=content))
    files.append(File.generated(config, PAGE, content=page()))
    return files


def picture_of(name: str) -> str:
    """Where the picture of an example lies."""
    return f"gallery/{name}.png"


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
    rest = COMMANDS.sub(lambda lines: f"```sh\n{textwrap.dedent(lines[0])}```\n", rest)
    shown = ""
    if name in PICTURES:
        shown = f"![{PICTURES[name].shows}]({picture_of(name)}){{ .drawn .in-gallery }}\n\n"
    elif name in OF_TUTORIALS:
        path, shows = OF_TUTORIALS[name]
        shown = f"![{shows}]({path}){{ .drawn .in-gallery }}\n\n"
    folded = textwrap.indent(f"```py\n{code}```", "    ")
    return (
        f"### {title.removesuffix('.')}\n\n{shown}{rest}\n\n"
        f'??? quote "`examples/{name}.py`"\n\n{folded}\n'
    )
