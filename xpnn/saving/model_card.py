"""A network written into a folder, with the card that model hubs show; ``folder.py`` reads it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xpnn.errors import FileError
from xpnn.files import replacement
from xpnn.saving.description import describe
from xpnn.saving.folder import CONFIG, MODEL_FILE
from xpnn.saving.model import save
from xpnn.saving.versions import MODEL, MODEL_VERSION

if TYPE_CHECKING:
    from xpnn.network import Network

CARD = "README.md"


def save_folder(
    network: "Network",
    folder: str | Path,
    *,
    title: str | None = None,
    text: str = "",
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
) -> None:
    """Write a network into a folder: model.safetensors, config.json and a model card, README.md.

    ``xpnn.load(folder)`` reads it. Each file is whole or as it was before; a README.md that is
    there stays as it is, as somebody may have written more into it. Where several processes train
    the network, all call it, process 0 writes, and the others wait.

    Args:
        network: of layers that a file can hold, see ``network.save``.
        folder: made if it is not there.
        title: of the card; the name of the folder unless given.
        text: what the card says of the network, in Markdown: what it is for, what it was trained
            on, where it fails.
        metrics: what was measured, by name, such as what ``trainer.evaluate`` returns.
        license: its identifier, such as "mit".

    Raises:
        XpnnError: a layer cannot be put into a file; nothing was written.
        FileError, OSError: the folder cannot be written to.

    >>> from pathlib import Path
    >>> import tempfile
    >>> from xpnn import Dense, Network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_folder(Network([Dense(2)], input_shape=(3,)), folder, title="Small")
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['README.md', 'config.json', 'model.safetensors']
    """
    about = title, text, dict(metrics or {}), license
    network.write_once("save_folder", lambda: _write(network, Path(folder), *about))


def _write(
    network: "Network",
    folder: Path,
    title: str | None,
    text: str,
    metrics: dict[str, float],
    license: str | None,
) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileError(f"wanted a folder, but {folder} is something else; give another path")
    config = {"format": MODEL, "version": MODEL_VERSION, "network": describe(network)}
    card = _card(network, title or folder.resolve().name, text, metrics, license)
    save(network, folder / MODEL_FILE)
    with replacement(folder / CONFIG) as file:
        file.write((json.dumps(config, indent=2, allow_nan=False) + "\n").encode())
    if not (folder / CARD).exists():
        with replacement(folder / CARD) as file:
            file.write(card.encode())


def _card(
    network: "Network", title: str, text: str, metrics: dict[str, float], license: str | None
) -> str:
    measured = {name: float(value) for name, value in metrics.items()}
    header = {
        "library_name": "xpnn",
        "tags": ["xpnn"],
        **({"license": license} if license else {}),
    }
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(one)}\n" for key, one in header.items()) + "---",
        f"# {title}",
        text.strip(),
        _table({name: _number(value) for name, value in measured.items()}),
        f"```text\n{network.summary()}\n```",
        'It is read by\n\n```python\nimport xpnn\n\nnetwork = xpnn.load("this/folder")\n```',
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(rows: dict[str, str]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| measured | |", "|---|---|", *lines]) if lines else ""


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else str(value)
