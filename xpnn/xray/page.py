"""The page of an explanation: one file with data, styles and script, that needs nothing else.

Names and texts come from networks, which may come from files of others: they are data of the page
and never part of its markup, and the policy of the page lets no script run but its own, and nothing
be loaded from elsewhere.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

SCRIPTS = (
    "elements", "arrays", "colours", "views", "grids", "canvases", "figures", "relations",
    "layout", "walk", "graph", "depth", "training", "detail", "page",
)  # fmt: skip
"""Files of the page's script, in the order in which they are joined."""


def page(data: Mapping[str, Any], source: str | None = None) -> str:
    """A page of HTML.

    Args:
        data: of an explanation, as ``Explanation.data`` gives it; of none where it is empty.
        source: the address at which the page asks for newer data while a training goes on.
    """
    style = _asset("page.css")
    script = "(() => {\n'use strict';\n" + "\n".join(map(_script, SCRIPTS)) + "})();\n"
    title = escape(str(data.get("title", "")))
    followed = f' data-source="{escape(source)}"' if source else ""
    parts = {
        "source": followed,
        "policy": _policy(style, script, followed=source is not None),
        "title": title,
        "style": style,
        "data": as_json(data) if data else "null",
        "script": script,
    }
    return _filled(_asset("page.html"), parts)


def frame(data: Mapping[str, Any], height: int = 760) -> str:
    """The page inside of another, as notebooks show it.

    Args:
        height: in pixels.
    """
    return (
        f'<iframe srcdoc="{escape(page(data))}" title="x-ray" '
        f'style="box-sizing:border-box;width:100%;height:{height}px;'
        f'border:1px solid rgba(128,128,128,0.4);border-radius:8px"></iframe>'
    )


def _asset(name: str) -> str:
    return files("xpnn.xray").joinpath("assets", name).read_text(encoding="utf-8")


def _script(name: str) -> str:
    return _asset(f"{name}.js")


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """A text with parts in the places ``{name}``; what the parts hold is left as it is."""
    pieces = []
    for piece in text.split("{"):
        name, brace, rest = piece.partition("}")
        pieces.append(parts[name] + rest if brace and name in parts else piece)
    return "".join(pieces)


def _policy(style: str, script: str, followed: bool) -> str:
    """What the page may do: show its own styles, run its own script, and ask who serves it."""
    rules = [
        "default-src 'none'",
        f"style-src '{_digest(chr(10) + style)}'",
        f"script-src '{_digest(chr(10) + script)}'",
        *(["connect-src 'self'"] if followed else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def as_json(data: Mapping[str, Any]) -> str:
    """The data as JSON, in which arrays of the same numbers share one text.

    What a layer gives is what the next one takes, and a delta that is handed on comes in elsewhere:
    ``numbers`` lists the texts, and the ``data`` of an array is the place of its own in there. No
    letter in it ends the element of a page that holds it.
    """
    texts: dict[str, int] = {}
    shared = _shared(data, texts)
    whole = {**shared, "numbers": [*texts]}
    return json.dumps(whole, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _shared(value: Any, texts: dict[str, int]) -> Any:
    if isinstance(value, list):
        return [_shared(one, texts) for one in value]
    if not isinstance(value, dict):
        return value
    if "shown" in value:  # an array
        return {**value, "data": texts.setdefault(value["data"], len(texts))}
    return {key: _shared(one, texts) for key, one in value.items()}
