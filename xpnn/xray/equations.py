"""The equations of a layer, as its docstring has them."""

from xml.sax.saxutils import escape


def equations_of(kind: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines of equations, forward and backward, of a class."""
    return (), ()


def as_mathml(line: str) -> str:
    """A line of equations as MathML."""
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"><mtext>{escape(line)}</mtext></math>'
