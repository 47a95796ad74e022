"""Lines of equations, as docstrings write them, set in mathematical type: native MathML.

Names of Greek letters become letters, ``_`` a subscript, ``^T`` a transpose, ``a / b`` a fraction
whose numerator is all of the product before the stroke and whose denominator is the one factor
behind it, ``dL/dW`` a derivative, ``Z[n, t]`` an index, ``sum_ij`` and ``sqrt(v)`` their signs.
English words stay text, and so does a line as a whole that cannot be read.

The parser goes down by recursion, a method for each level of precedence::

    line     = { relation | separator | words | sum }
    sum      = [ "-" | "+" ] product { ( "-" | "+" ) product }
    product  = factor { "/" factor | "." factor | factor }
    factor   = atom { "[" line "]" | "^" exponent | "(" line ")" }
    atom     = number | name | derivative | "..." | "(" line ")" | "[" line "]" | "|" line "|"
"""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from xpnn.drawing import escaped

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
TOKEN = re.compile(
    r"\s*(?:(?P<derivative>d[Ll](?:_[a-z])?/d(?=[A-Za-z]))|(?P<number>\d+(?:\.\d+)?'*)|"
    r"(?P<name>(?!sum|max)[a-z]{3,}_[a-z]{4,}|[A-Za-z]+'*)|"
    r"(?P<dots>\.\.\.)|(?P<sign><-|<=|>=|!=|[-+*/=<>.,:;()\[\]|^_]))"
)
LEAF = re.compile(r"<(m[ino])>[^<]*</\1>")
REMARK = re.compile(r" {3,}")
SHAPES = re.compile(r"([A-Za-z](?:_\w)?)( \([^=]*)")

LETTERS = "αβγδεηθλμπρστφψω"
NAMES = "alpha beta gamma delta epsilon eta theta lambda mu pi rho sigma tau phi psi omega"
GREEK = dict(zip(NAMES.split(), LETTERS, strict=True))
MINUS, PRIME, TRANSPOSED = "\N{MINUS SIGN}", "\N{PRIME}", "\N{DOWN TACK}"
NO_BREAK = "\N{NO-BREAK SPACE}"
FUNCTION_NAMES = "exp log tanh sin cos cosh sign erfc softmax mean max min"
FUNCTIONS = frozenset(FUNCTION_NAMES.split())
ENGLISH = (
    "added all and any as at but by cover cut else for from has if in is itself of or over that "
    "the times to under what where which with won"
)
WORDS = frozenset(ENGLISH.split())
RELATIONS = {"=": "=", "<-": "←", "<=": "≤", ">=": "≥", "!=": "≠", "<": "<", ">": ">"}
SEPARATORS = (",", ":", ";")
SUMS = {"+": "+", "-": MINUS}
SPACE = '<mspace width="0.2em"/>'
INDEXING = {*"chijklmnopqrtuvw"}
"""Letters that stand side by side where several indices are meant."""

DEEPEST = 20
"""So many brackets, fractions and indices inside of each other are set. Equations have five or six;
a line with more stays text, and can exhaust neither the parser's stack nor a browser's."""


class UnreadableError(ValueError):
    """A line that is not written in the way that is read here, or is nested too deeply."""


class Bracketed(str):
    """Elements in round brackets, in a row of their own.

    Attributes:
        inside: without the brackets.
    """

    inside: str

    def __new__(cls, inside: str) -> "Bracketed":
        made = super().__new__(cls, _row(f"{_sign('(')}{inside}{_sign(')')}"))
        made.inside = inside
        return made


class Token(NamedTuple):
    """A sign, a number or a name.

    Attributes:
        kind: "derivative", "number", "name", "dots" or "sign".
        text: as it is written.
        is_apart: whether there is a space before it.
    """

    kind: str
    text: str
    is_apart: bool


def as_mathml(line: str) -> str:
    """A line of equations as a ``math`` element.

    >>> as_mathml("Z^2")[69:]
    '<msup><mi>Z</mi><mn>2</mn></msup></math>'
    """
    equation, *remarks = REMARK.split(line)
    try:
        parts = [_of_shapes(equation) or Parser(equation).line()]
        parts += [f'<mspace width="2em"/>{_of_remark(one)}' for one in remarks]
    except UnreadableError:
        parts = [_text(line)]
    return f'<math xmlns="{NAMESPACE}" displaystyle="true">{"".join(parts)}</math>'


def _of_shapes(text: str) -> str | None:
    """A symbol and its shape, as in ``W (inputs, units)``; None for what is not that."""
    found = SHAPES.fullmatch(text)
    return None if found is None else Parser(found[1]).line() + _text(found[2])


def _of_remark(text: str) -> str:
    return Parser(text).line() if " = " in text else _of_shapes(text) or _text(text)


def _tokens(text: str) -> list[Token]:
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise UnreadableError(text)
        start = found.start(found.lastgroup)
        tokens.append(Token(found.lastgroup, found[found.lastgroup], start > place))
        place = found.end()
    return tokens


class Parser:
    """Reads a line from left to right; see the grammar above."""

    def __init__(self, text: str):
        self.tokens, self.place, self.depth = _tokens(text), 0, 0

    # Looking ahead ------------------------------------------------------------------------------

    def next_is(self, *texts: str) -> bool:
        """Whether one of these comes next."""
        return self.place < len(self.tokens) and self.tokens[self.place].text in texts

    def next_touches(self, text: str) -> bool:
        """Whether this comes next, without a space."""
        return self.next_is(text) and not self.tokens[self.place].is_apart

    def take(self, *wanted: str) -> Token:
        """The next token, which has to be one of these, if any are named."""
        if self.place == len(self.tokens) or (wanted and not self.next_is(*wanted)):
            raise UnreadableError(" ".join(token.text for token in self.tokens))
        self.place += 1
        return self.tokens[self.place - 1]

    def begins_word(self) -> bool:
        """Whether an English word comes next."""
        return self.next_is(*WORDS) and not self._is_sum_of()

    def _is_sum_of(self) -> bool:
        return self.place > 0 and self.tokens[self.place - 1].text == "sum" and self.next_is("of")

    def begins_factor(self) -> bool:
        """Whether what comes next can be multiplied with what is before it."""
        if self.place == len(self.tokens) or self.begins_word():
            return False
        token = self.tokens[self.place]
        return token.kind != "sign" or token.text in ("(", "[")

    def levels(self) -> Iterator[int]:
        """How deep the markup is if one more element is put around it, and one more again.

        Raises:
            UnreadableError: it is too deep.
        """
        for depth in itertools.count(self.depth):
            if depth > DEEPEST:
                raise UnreadableError(f"more than {DEEPEST} elements inside of each other")
            yield depth

    # From the weakest sign to the strongest -----------------------------------------------------

    def line(self, until: str = "") -> str:
        """All that comes, up to a closing sign."""
        parts = []
        while self.place < len(self.tokens) and not (until and self.next_is(until)):
            if self.next_is(*RELATIONS):
                parts.append(_sign(RELATIONS[self.take().text]))
            elif self.next_is(*SEPARATORS):
                parts.append(_sign(self.take().text))
            elif self.begins_word():
                parts.append(self.words())
            else:
                parts.append(self.sum())
        return "".join(parts)

    def words(self) -> str:
        """English, up to the next symbol."""
        found: list[str] = []
        while self.begins_word() or (found and self._goes_on()):
            found.append(self.take().text)
        return _text(f" {' '.join(found)} ")

    def _goes_on(self) -> bool:
        if self.place == len(self.tokens):
            return False
        token = self.tokens[self.place]
        is_symbol = len(token.text) == 1 or token.text in {*GREEK, *FUNCTIONS, "sum"}
        behind = self.tokens[self.place + 1] if self.place + 1 < len(self.tokens) else None
        has_index = behind is not None and behind.text in ("_", "[", "(") and not behind.is_apart
        return token.kind == "name" and not is_symbol and not has_index

    def sum(self) -> str:
        """``a - b + c``."""
        parts = [_sign(SUMS[self.take().text])] if self.next_is(*SUMS) else []
        parts.append(self.product())
        while self.next_is(*SUMS):
            parts += [_sign(SUMS[self.take().text]), self.product()]
        return "".join(parts)

    def product(self) -> str:
        """``a b / c d``, which is a b over c, times d."""
        parts, levels = [self.factor()], self.levels()
        while True:
            if self.next_is("/"):
                self.take()
                next(levels)
                above = parts[0] if len(parts) == 1 else "".join(parts)
                parts = [f"<mfrac>{_row(_bare(above))}{_row(_bare(self.factor()))}</mfrac>"]
            elif self.next_is("*", "."):
                self.take()
                parts += [_sign("⋅"), self.factor()]
            elif self.begins_factor():
                parts += [SPACE, self.factor()]
            else:
                return parts[0] if len(parts) == 1 else "".join(parts)

    def factor(self) -> str:
        """One symbol, number or bracket with what is attached to it. All nesting passes here."""
        self.depth += 1
        levels = self.levels()
        next(levels)
        made = self.atom()
        for _ in levels:
            if self.next_touches("["):
                made = f"<msub>{_row(made)}{self.index()}</msub>"
            elif self.next_is("^"):
                self.take()
                made = f"<msup>{_row(made)}{self.exponent()}</msup>"
            elif self.next_touches("("):
                made += self.bracketed()
            else:
                break
        self.depth -= 1
        return made

    def atom(self) -> str:
        """What no sign parts."""
        if self.next_is("("):
            return self.bracketed()
        if self.next_is("["):
            return _row(f"{_sign('[')}{self.enclosed('[', ']')}{_sign(']')}")
        if self.next_is("|"):
            return _row(f"{_sign('|')}{self.enclosed('|', '|')}{_sign('|')}")
        token = self.take()
        if token.kind == "number":
            return f"<mn>{token.text}</mn>"
        if token.kind == "dots":
            return _sign("…")
        if token.kind == "derivative":
            return self.derivative(token.text)
        if token.kind == "name":
            return self.name(token.text)
        raise UnreadableError(token.text)

    def enclosed(self, opening: str, closing: str) -> str:
        """All between two signs, without them."""
        self.take(opening)
        inside = self.line(until=closing)
        self.take(closing)
        return inside

    def bracketed(self) -> Bracketed:
        return Bracketed(self.enclosed("(", ")"))

    def index(self) -> str:
        """``[n, t]``, as a subscript has it."""
        return _row(self.enclosed("[", "]"))

    def exponent(self) -> str:
        if self.next_is("T"):
            self.take()
            return f"<mi>{TRANSPOSED}</mi>"
        return _row(_bare(self.atom()))

    def derivative(self, text: str) -> str:
        """``dL/dW``: behind the stroke is a name with its subscript and its index."""
        of = self.name(self.take().text)
        if self.next_touches("["):
            of = f"<msub>{_row(of)}{self.index()}</msub>"
        top = Parser(text[1:-2]).line()
        above, below = _row(f"<mo>∂</mo>{top}"), _row(f"<mo>∂</mo>{of}")
        return f"<mfrac>{above}{below}</mfrac>"

    def name(self, text: str) -> str:
        """A symbol with its subscript, or a function with what it is applied to."""
        plain = text.rstrip("'")
        primes = len(text) - len(plain)
        if plain == "sum":
            return self.summation()
        if plain in ("sqrt", "floor", "ceil"):
            return self.rooted_or_rounded(plain)
        made = _symbol(plain)
        if self.next_touches("_"):
            place = "munder" if plain in ("max", "min") else "msub"
            below, more = self.subscript()
            made, primes = f"<{place}>{made}{below}</{place}>", primes + more
        if primes:
            made = f"<msup>{made}<mo>{PRIME * primes}</mo></msup>"
        if plain in FUNCTIONS and self.begins_factor() and not self.next_touches("("):
            made += f"{SPACE}{self.factor()}"
        return made

    def subscript(self) -> tuple[str, int]:
        """It, and how many primes are behind it, which belong to the whole."""
        self.take("_")
        if self.next_is("("):
            return _row(self.enclosed("(", ")")), 0
        text = self.take().text
        plain = text.rstrip("'")
        several = len(plain) > 1 and INDEXING.issuperset(plain)
        letters = "".join(f"<mi>{letter}</mi>" for letter in plain)
        return _row(letters) if several else _symbol(plain), len(text) - len(plain)

    def summation(self) -> str:
        """``sum_ij a`` or ``sum of a``: the sign, and the product behind it."""
        made = _sign("∑")
        if self.next_touches("_"):
            made = f"<munder>{made}{self.subscript()[0]}</munder>"
        elif self.next_is("of"):
            self.take()
        return _row(made + (self.product() if self.begins_factor() else ""))

    def rooted_or_rounded(self, name: str) -> str:
        inside = _bare(self.atom()) if self.next_touches("(") else self.factor()
        if name == "sqrt":
            return f"<msqrt>{inside}</msqrt>"
        left, right = "⌊⌋" if name == "floor" else "⌈⌉"
        return _row(f"{_sign(left)}{inside}{_sign(right)}")


def _symbol(text: str) -> str:
    if text.isdigit():
        return f"<mn>{text}</mn>"
    if len(text) == 2 and text[0] == "d" and text[1].isupper():
        return _row(f"<mi>d</mi><mi>{text[1]}</mi>")
    return f"<mi>{escaped(GREEK.get(text, text))}</mi>"


def _sign(text: str) -> str:
    return f"<mo>{escaped(text)}</mo>"


def _text(text: str) -> str:
    """Text, with spaces that stay at its ends."""
    return f"<mtext>{escaped(text).replace(' ', NO_BREAK)}</mtext>"


def _bare(made: str) -> str:
    """What is above or below the line of a fraction, which needs no brackets around it."""
    return made.inside if isinstance(made, Bracketed) else made


def _row(inside: str) -> str:
    """One element, of however many there are inside."""
    return inside if LEAF.fullmatch(inside) else f"<mrow>{inside}</mrow>"
