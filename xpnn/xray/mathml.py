"""Lines of equations, as docstrings write them, set in mathematical type: native MathML.

Names of Greek letters become letters, ``_`` a subscript, ``^T`` a transpose, ``a / b`` a fraction
whose numerator is all of the product before the stroke and whose denominator is the one factor
behind it, ``dL/dW`` a derivative, ``Z[n, t]`` an index, ``sum_ij`` and ``sqrt(v)`` their signs.
English words stay text, and so does a line as a whole that cannot be read.
"""

import re
from collections.abc import Callable
from html import escape
from typing import NamedTuple

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
TOKEN = re.compile(
    r"\s*(?:(?P<derivative>d[Ll](?:_[a-z])?/d(?=[A-Za-z]))|(?P<number>\d+(?:\.\d+)?'*)|"
    r"(?P<name>(?!sum|max)[a-z]{3,}_[a-z]{4,}|[A-Za-z]+'*)|"
    r"(?P<dots>\.\.\.)|(?P<sign><-|<=|>=|!=|[-+*/=<>.,:;()\[\]|^_]))"
)
BRACKET = re.compile(r"<mo>([()])</mo>")
LEAF = re.compile(r"<(m[ino])>[^<]*</\1>")
REMARK = re.compile(r" {3,}")
SHAPES = re.compile(r"([A-Za-z](?:_\w)?)( \([^=]*)")

LETTERS = "αβγδεηθλμπρστφψω"
NAMES = "alpha beta gamma delta epsilon eta theta lambda mu pi rho sigma tau phi psi omega"
GREEK = dict(zip(NAMES.split(), LETTERS, strict=True))
MINUS, PRIME, TRANSPOSED = "\N{MINUS SIGN}", "\N{PRIME}", "\N{DOWN TACK}"
FUNCTION_NAMES = "exp log tanh sin cos cosh sign erfc softmax mean max min"
FUNCTIONS = frozenset(FUNCTION_NAMES.split())
ENGLISH = (
    "added all and any as at but by cover cut else for from has if in is itself of or over that "
    "the times to under what where which with won"
)
WORDS = frozenset(ENGLISH.split())
RELATIONS = {"=": "=", "<-": "←", "<=": "≤", ">=": "≥", "!=": "≠", "<": "<", ">": ">"}
BETWEEN = {",": ",", ":": ":", ";": ";"}
SUMS = {"+": "+", "-": MINUS}
PRODUCTS = {"*": "⋅", ".": "⋅"}
INDEXING = {*"chijklmnopqrtuvw"}
"""Letters that stand side by side where several indices are meant."""


class UnreadableError(ValueError):
    """A line that is not written in the way that is read here."""


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
        parts = [_of_shapes(equation) or Reader(equation).line()]
        parts += [f'<mspace width="2em"/>{_of_remark(one)}' for one in remarks]
    except UnreadableError:
        parts = [_text(line)]
    return f'<math xmlns="{NAMESPACE}" displaystyle="true">{"".join(parts)}</math>'


def _of_shapes(text: str) -> str | None:
    """A symbol and its shape, as in ``W (inputs, units)``; None for what is not that."""
    found = SHAPES.fullmatch(text)
    return None if found is None else Reader(found[1]).line() + _text(found[2])


def _of_remark(text: str) -> str:
    return Reader(text).line() if " = " in text else _of_shapes(text) or _text(text)


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


class Reader:
    """Reads a line from left to right, one method for each level of how strongly signs bind."""

    def __init__(self, text: str):
        self.tokens, self.place = _tokens(text), 0

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

    # From the weakest sign to the strongest -----------------------------------------------------

    def line(self, until: str = "") -> str:
        """All that comes, up to a closing sign."""
        parts = []
        while self.place < len(self.tokens) and not (until and self.next_is(until)):
            if self.next_is(*RELATIONS, *BETWEEN):
                parts.append(_sign({**RELATIONS, **BETWEEN}[self.take().text]))
            elif self.begins_word():
                parts.append(self.words())
            else:
                parts.append(self.sum_of_terms())
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

    def sum_of_terms(self) -> str:
        """``a - b + c``."""
        parts = [_sign(SUMS[self.take().text])] if self.next_is(*SUMS) else []
        parts.append(self.term())
        while self.next_is(*SUMS):
            parts += [_sign(SUMS[self.take().text]), self.term()]
        return "".join(parts)

    def term(self) -> str:
        """``a b / c d``, which is a b over c, times d."""
        parts = [self.factor()]
        while True:
            if self.next_is("/"):
                self.take()
                above, below = _bare("".join(parts)), _bare(self.factor())
                parts = [f"<mfrac>{_row(above)}{_row(below)}</mfrac>"]
            elif self.next_is(*PRODUCTS):
                parts += [_sign(PRODUCTS[self.take().text]), self.factor()]
            elif self.begins_factor():
                parts += ['<mspace width="0.2em"/>', self.factor()]
            else:
                return "".join(parts)

    def factor(self) -> str:
        """One symbol, number or bracket, with all that is attached to it."""
        made = self.base()
        while True:
            if self.next_touches("["):
                made = f"<msub>{_row(made)}{self.bracketed('[', ']', shown=False)}</msub>"
            elif self.next_is("^"):
                self.take()
                made = f"<msup>{_row(made)}{self.exponent()}</msup>"
            elif self.next_touches("("):
                made += self.bracketed("(", ")")
            else:
                return made

    def base(self) -> str:
        if self.next_is("("):
            return self.bracketed("(", ")")
        if self.next_is("["):
            return self.bracketed("[", "]")
        if self.next_is("|"):
            self.take()
            inside = self.line(until="|")
            self.take("|")
            return _row(f"{_sign('|')}{inside}{_sign('|')}")
        token = self.take()
        readers: dict[str, Callable[[str], str]] = {
            "number": lambda text: f"<mn>{text}</mn>",
            "dots": lambda _: _sign("…"),
            "derivative": self.derivative,
            "name": self.name,
        }
        if token.kind not in readers:
            raise UnreadableError(token.text)
        return readers[token.kind](token.text)

    def bracketed(self, opening: str, closing: str, shown: bool = True) -> str:
        self.take(opening)
        inside = self.line(until=closing)
        self.take(closing)
        return _row(f"{_sign(opening)}{inside}{_sign(closing)}" if shown else inside)

    def exponent(self) -> str:
        if self.next_is("T"):
            self.take()
            return f"<mi>{TRANSPOSED}</mi>"
        return self.bracketed("(", ")", shown=False) if self.next_is("(") else _row(self.base())

    def derivative(self, text: str) -> str:
        """``dL/dW``: behind the stroke is a name with its subscript and its index."""
        of = self.name(self.take().text)
        if self.next_touches("["):
            of = f"<msub>{_row(of)}{self.bracketed('[', ']', shown=False)}</msub>"
        top = Reader(text[1:-2]).line()
        above, below = _row(f"<mo>∂</mo>{top}"), _row(f"<mo>∂</mo>{of}")
        return f"<mfrac>{above}{below}</mfrac>"

    def name(self, text: str) -> str:
        """A symbol with its subscript, or a function with what it is applied to."""
        plain = text.rstrip("'")
        primes = len(text) - len(plain)
        if plain == "sum":
            return self.summed()
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
            made += f'<mspace width="0.2em"/>{self.factor()}'
        return made

    def subscript(self) -> tuple[str, int]:
        """It, and how many primes are behind it, which belong to the whole."""
        self.take("_")
        if self.next_is("("):
            return self.bracketed("(", ")", shown=False), 0
        text = self.take().text
        plain = text.rstrip("'")
        several = len(plain) > 1 and INDEXING.issuperset(plain)
        letters = "".join(f"<mi>{letter}</mi>" for letter in plain)
        return _row(letters) if several else _symbol(plain), len(text) - len(plain)

    def summed(self) -> str:
        """``sum_ij a`` or ``sum of a``: the sign, and the product behind it."""
        made = _sign("∑")
        if self.next_touches("_"):
            made = f"<munder>{made}{self.subscript()[0]}</munder>"
        elif self.next_is("of"):
            self.take()
        return _row(made + (self.term() if self.begins_factor() else ""))

    def rooted_or_rounded(self, name: str) -> str:
        touches = self.next_touches("(")
        inside = self.bracketed("(", ")", shown=False) if touches else self.factor()
        if name == "sqrt":
            return f"<msqrt>{inside}</msqrt>"
        left, right = "⌊⌋" if name == "floor" else "⌈⌉"
        return _row(f"{_sign(left)}{inside}{_sign(right)}")


def _symbol(text: str) -> str:
    if text.isdigit():
        return f"<mn>{text}</mn>"
    if len(text) == 2 and text[0] == "d" and text[1].isupper():
        return _row(f"<mi>d</mi><mi>{text[1]}</mi>")
    return f"<mi>{escape(GREEK.get(text, text))}</mi>"


def _sign(text: str) -> str:
    return f"<mo>{escape(text)}</mo>"


def _text(text: str) -> str:
    """Text, with spaces that stay at its ends."""
    return f"<mtext>{escape(text.replace(' ', chr(0xA0)))}</mtext>"


def _bare(made: str) -> str:
    """What is above or below the line of a fraction, which needs no brackets around it."""
    opening, closing = f"<mrow>{_sign('(')}", f"{_sign(')')}</mrow>"
    if not (made.startswith(opening) and made.endswith(closing)):
        return made
    inside, depth = made[len(opening) : -len(closing)], 0
    for bracket in BRACKET.findall(inside):
        depth += 1 if bracket == "(" else -1
        if depth < 0:  # the two at the ends are not a pair
            return made
    return inside


def _row(inside: str) -> str:
    """One element, of however many there are inside."""
    return inside if LEAF.fullmatch(inside) else f"<mrow>{inside}</mrow>"
