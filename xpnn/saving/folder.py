"""A network in a folder, as model hubs have it: weights, description and a card to read.

::

    model.safetensors    what ``network.save`` writes: all that ``xpnn.load`` needs
    config.json          the same description of the layers, for people and other programs
    README.md            the model card: a header in YAML, then Markdown

``model_card.py`` writes them.
"""

from collections.abc import Callable
from pathlib import Path

from xpnn.errors import FileError
from xpnn.files import open_file
from xpnn.saving.model import AnyNetwork, read_model
from xpnn.saving.tensor_file import TensorFile, strict_json

MODEL_FILE, CONFIG = "model.safetensors", "config.json"

MAX_CONFIG = 50_000_000
"""Bytes of config.json; indented, what the longest description of layers takes."""


def is_model_folder(path: str | Path) -> bool:
    """Whether ``save_folder`` may have written it."""
    try:
        return (Path(path) / MODEL_FILE).is_file()
    except (OSError, ValueError):  # no name of a folder; reading it as a file says what is wrong
        return False


def read_folder(
    folder: str | Path, make: Callable[..., AnyNetwork], dtype: str | None = None
) -> AnyNetwork:
    """The network in a folder, as ``read_model`` reads it from its file.

    Raises:
        FileError: config.json describes other layers, as when one file of the two was replaced.
    """
    path = Path(folder) / MODEL_FILE
    network = read_model(path, make, dtype)
    config = Path(folder) / CONFIG
    if config.exists():
        with TensorFile(path) as file, open_file(config) as other:
            said = strict_json(file.metadata["network"])
            _check_config(config, other.read(MAX_CONFIG), said)
    return network


def _check_config(path: Path, content: bytes, description: object) -> None:
    try:
        said = strict_json(content.decode())["network"]
    except (ValueError, LookupError, TypeError) as error:
        raise FileError(
            f"{path} does not describe a network ({str(error)[:200]}); {MODEL_FILE} beside it can "
            f"be loaded by itself"
        ) from None
    if said != description:
        raise FileError(
            f"{path} describes other layers than {MODEL_FILE} beside it, which can be loaded by "
            f"itself; save_folder writes both"
        )
