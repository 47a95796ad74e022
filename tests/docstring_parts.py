"""What a docstring is made of: sections such as ``Args:``, blocks behind ``::``, examples."""

import ast
import builtins
import doctest
import inspect
import re
import textwrap
from dataclasses import dataclass, field

SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):$")
ENTRY = re.compile(r"^ {4}(\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*):(?: |$)")
GAP = re.compile(r" {3,}")
EQUATION = re.compile(r"\S +(?:=|<-) ")


@dataclass
class Docstring:
    """A docstring in parts.

    Attributes:
        text: all of it.
        prose: what stands outside of blocks, sections and examples, a paragraph each.
        blocks: what is indented behind a paragraph that ends in ``::``: that paragraph, its lines.
        sections: the names that are explained in each section, in order.
        stories: the text of each section.
        examples: what is typed behind ``>>>``.
    """

    text: str
    prose: list[str] = field(default_factory=list)
    blocks: list[tuple[str, list[str]]] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)
    stories: dict[str, str] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def equations(self) -> list[str]:
        """The lines of the blocks that hold equations."""
        found = [lines for _, lines in self.blocks if any(map(EQUATION.search, lines))]
        return [line for lines in found for line in lines]

    def block(self, beginning: str) -> list[str]:
        """The lines of equations behind the first paragraph with a sentence that begins so."""
        begins = re.compile(rf"(?:^|[.:] ){beginning}\b")
        for before, lines in self.blocks:
            if begins.search(before) and any(map(EQUATION.search, lines)):
                return lines
        return []


def parts_of(thing: object) -> Docstring:
    """The parts of the docstring that a class or function has itself."""
    found = Docstring(inspect.cleandoc(getattr(thing, "__doc__", None) or ""))
    found.examples = [one.source for one in doctest.DocTestParser().get_examples(found.text)]
    for paragraph, below in _paragraphs(found.text):
        head = paragraph.splitlines()[0]
        if section := SECTION.match(head):
            lines = [*paragraph.splitlines()[1:], *below]
            entries = [one[1] for one in map(ENTRY.match, lines) if one]
            names = [name.lstrip("*") for entry in entries for name in entry.split(", ")]
            found.sections[section[1]] = names
            found.stories[section[1]] = " ".join(line.strip() for line in lines)
        elif below:
            found.blocks.append((" ".join(paragraph.split()), below))
            found.prose.append(" ".join(paragraph.split()))
        elif not head.startswith(">>>"):
            found.prose.append(" ".join(paragraph.split()))
    return found


def _paragraphs(text: str) -> list[tuple[str, list[str]]]:
    """The paragraphs at the margin, each with the indented lines that follow behind a blank one."""
    found: list[tuple[str, list[str]]] = []
    for paragraph in re.split(r"\n\n+", text):
        if paragraph.startswith("    ") and found:
            found[-1][1].extend(paragraph.splitlines())
        elif paragraph:
            found.append((paragraph, []))
    return found


def arguments_of(thing: object) -> list[str]:
    """The names of what a function or constructor takes, without ``self``."""
    made = inspect.unwrap(thing.__init__) if isinstance(thing, type) else thing
    if made is object.__init__:
        return []
    names = list(inspect.signature(made).parameters)
    return names[1:] if isinstance(thing, type) else names


def not_imported(examples: list[str], known: set[str]) -> list[str]:
    """The names that examples read and neither import nor make, but for those that are known."""
    made, read = {*known, *vars(builtins)}, set()
    for node in ast.walk(ast.parse("".join(examples))):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                made |= {(one.asname or one.name).partition(".")[0] for one in names}
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                made.add(name)
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name):
                made.add(name)
    return sorted(read - made)


def raised_in(function: object) -> set[str]:
    """The names of what is raised in the body of a function, not in those that it calls."""
    function = inspect.unwrap(function)
    if function.__code__.co_filename == "<string>":  # that of a dataclass
        return set()
    source = textwrap.dedent(inspect.getsource(function))
    found, left = set(), [*ast.parse(source).body[0].body]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
    return found


GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "eta", "lambda", "mu", "pi", "rho", "sigma"}
SIGN = re.compile(r"(?<![\w.])([A-Za-z]+)(?![A-Za-z0-9])")
DERIVATIVE = re.compile(r"\bd([A-Za-z])(?![A-Za-z0-9])")
MARKS = r"(?:'|_\w+|\^\w+|_?\([\w+ -]*\)|\[[^\]]*\])*"
"""What may stand behind a sign: a prime, a subscript, a power, arguments, indices."""


def signs_in(line: str) -> set[str]:
    """The single letters and Greek names of a line of equations, without subscripts and powers.

    Derivatives are taken apart: ``dL/dW`` has L and W in it.
    """
    bare = re.sub(r"_\w+|_\([^)]*\)", "", DERIVATIVE.sub(r" \1", line))
    return {one for one in SIGN.findall(bare) if len(one) == 1 or one in GREEK}


def says_what_it_is(sign: str, parts: Docstring) -> bool:
    """Whether a docstring explains a sign: in words, by its shape, or by an equation for it."""
    in_words = re.compile(rf"(?<![\w/]){sign}(?![A-Za-z0-9])")
    if any(map(in_words.search, [*parts.prose, *parts.stories.values()])):
        return True
    on_the_left = re.compile(rf"(?<!\w){sign}{MARKS}(?: += | +<- | \()")
    return any(map(on_the_left.search, parts.equations()))
