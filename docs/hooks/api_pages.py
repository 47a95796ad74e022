"""Writes the pages of the API while the site is built: one for each public class and function.

A page has the import, the kinds that a class is made from, the docstring with its equations, what
its members say, and the source as a whole. ``api_tables.py`` says what there is, and where.
"""

import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from api_tables import PARTS, Part
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import xpnn

ROOT = Path(xpnn.__file__).parent.parent
MENU_ENTRY = "API"
OPEN = 120
"""Up to how many lines of source are shown unfolded."""
SOURCE = re.compile(r'(?<=</h2>\n)<details class="quote".*</details>', re.DOTALL)
PUT_ASIDE = "<!-- source -->"
aside: dict[str, str] = {}
"""Sources as they are shown, by the pages that they are put back into."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the menu in, where ``mkdocs.yml`` has the API's first page alone."""
    for entry in config.nav:
        if MENU_ENTRY in entry:
            entry[MENU_ENTRY] = [entry[MENU_ENTRY], *(menu(*one) for one in PARTS.items())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that lie in ``docs/``."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the source aside: the search parses whole pages, most of which it is, to pass over it."""
    found = SOURCE.search(html) if page.file.src_uri.startswith("api/") else None
    if not found:
        return html
    aside[page.file.src_uri] = found[0]
    return html[: found.start()] + PUT_ASIDE + html[found.end() :]


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Put the source back."""
    return output.replace(PUT_ASIDE, aside.pop(page.file.src_uri, PUT_ASIDE))


def menu(folder: str, part: Part) -> dict[str, Any]:
    """The entry of one part: its overview, then its pages under their headings."""
    if part.whole:
        return {part.title: f"api/{folder}/index.md"}
    groups = {
        title: [{name: f"api/{folder}/{name}.md"} for name in names.split()]
        for title, names in part.groups.items()
    }
    below = [{title: group} for title, group in groups.items()]
    return {
        part.title: [
            f"api/{folder}/index.md",
            *(below if len(below) > 1 else next(iter(groups.values()))),
        ]
    }


def pages() -> dict[str, str]:
    """The Markdown of every page by its path under ``docs/``."""
    made = {"api/index.md": first_page()}
    for folder, part in PARTS.items():
        made[f"api/{folder}/index.md"] = whole_page(part) if part.whole else overview(part)
        if not part.whole:
            made |= {f"api/{folder}/{name}.md": page(part, name) for name in part.names()}
    return made


def first_page() -> str:
    """What the parts are, with all their names."""
    lines = [
        "# API",
        "",
        "Signs and words are explained on [a page of their own](../notation.md).",
        "",
    ]
    for folder, part in PARTS.items():
        named = " ".join(
            f"[`{name}`]({folder}/{name}.md)" if not part.whole else f"`{name}`"
            for name in part.names()
        )
        lines += [f"**[{part.title}]({folder}/index.md)**", "", named, ""]
    return "\n".join(lines)


def overview(part: Part) -> str:
    """The names of one part under their headings, each with the first sentence of its docstring."""
    lines = [f"# {part.title}", "", introduction(part.module), ""]
    for title, names in part.groups.items():
        lines += [f"## {title}", ""] if len(part.groups) > 1 else []
        lines += [f"- [`{one}`]({one}.md){first_sentence(part, one)}" for one in names.split()]
        lines += [""]
    return "\n".join(lines)


def whole_page(part: Part) -> str:
    """All of a short part, one below the other."""
    members = "".join(f"\n        - {name}" for name in part.names())
    return f"# {part.title}\n\n::: {part.module}\n    options:\n      members:{members}\n"


def page(part: Part, name: str) -> str:
    """The page of one class, function or constant."""
    thing, path = getattr(import_module(part.module), name), f"{part.module}.{name}"
    home = "xpnn" if getattr(xpnn, name, None) is thing else part.module
    options: dict[str, object] = {
        "show_root_heading": True,
        "heading_level": 1,
        "show_source": False,
        "extra": {"home": home, "kinds": kinds(thing)},
        **part.options,
    }
    lines = [f"---\ntitle: {name}\n---\n", f"::: {path}", "    options:"]
    lines += [f"      {key}: {value!r}" for key, value in options.items()]
    return "\n".join(lines) + "\n" + source(thing)


def introduction(module: str) -> str:
    """What a module says of itself in its first paragraph."""
    return (inspect.getdoc(import_module(module)) or "").split("\n\n")[0]


def first_sentence(part: Part, name: str) -> str:
    """Of a docstring, on one line behind a colon; nothing for constants, which have none."""
    thing = getattr(import_module(part.module), name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return ""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return ": " + " ".join(paragraph.split()).removesuffix("::").replace("``", "`")


def public_classes() -> dict[type, str]:
    """The classes that have a page, and the names by which pages find them."""
    found = {}
    for part in PARTS.values():
        for name in part.names():
            thing = getattr(import_module(part.module), name)
            if inspect.isclass(thing):
                found.setdefault(thing, f"{part.module}.{name}")
    return found


def kinds(thing: Any) -> list[list[str]]:
    """Of a class the nearest public ones that it is made from: names, and where their pages are."""
    if not inspect.isclass(thing):
        return []
    known = public_classes()
    above = [one for one in thing.__mro__[1:] if one in known]
    nearest = [
        one
        for one in above
        if not any(other is not one and issubclass(other, one) for other in above)
    ]
    return [[one.__name__, known[one]] for one in nearest]


def source(thing: Any) -> str:
    """The code of a class or function, folded up if it is long; searches do not look into it."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return ""
    path = Path(inspect.getsourcefile(thing) or "").relative_to(ROOT).as_posix()
    lines, first = inspect.getsourcelines(thing)
    code = textwrap.dedent("".join(lines))
    block = f'```python linenums="{first}"\n{code}```\n'
    folded = "???" if len(lines) > OPEN else "???+"
    return (
        "\n## Source { data-search-exclude }\n\n"
        f'{folded} quote "`{path}`"\n\n{textwrap.indent(block, "    ")}'
    )
