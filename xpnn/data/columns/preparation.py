"""Columns: what a network is given of a table, learned on the training rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from xpnn.data.columns.batches import EncodedBatches
from xpnn.data.columns.choosing import Learner, as_encoding
from xpnn.data.columns.column import Label, is_date
from xpnn.data.columns.encodings import Encoding, OfLabels
from xpnn.data.columns.table import Table, is_table
from xpnn.data.columns.target import Target, Task
from xpnn.data.columns.written import as_plain, from_plain
from xpnn.errors import DataError, NotBuiltError
from xpnn.layers import Concatenate, Embedding, Flatten, Input
from xpnn.layers.nodes import Node
from xpnn.saving.attachments import Attachment

NUMBERS = "numbers"
"""The name of the input that has all that is not looked up."""


class Columns(Attachment, kind="Columns"):
    """How the columns of a table become what a network is given, learned on the training rows.

    Tables are DataFrames of pandas and polars, tables of pyarrow, and dicts of arrays by name. A
    column is encoded by what it holds, unless ``encodings`` says otherwise::

        numbers                  Standardized    z = (x - mean) / deviation
        booleans                 Numbers         0 or 1
        texts, categories        OneHot          up to 10 labels
                                 Embedded        more: an id, whose vector is learned
        dates                    Dates           days, time of year, of the week, of the day
        nothing but gaps         left out

    Each of them has a place for values that are missing, and for labels that are unknown in
    training. What is learned depends on the rows and their order alone, and takes no more memory
    for many rows than for few, so that a file can be read in stretches.

    Args:
        encodings: for columns by name: an encoding such as ``Embedded(8)``, its name, such as
            "one-hot", or None to leave the column out.
        target: the column that the network is to tell, or a list of several that hold numbers;
            None where there is none.
        target_as: "classes", "numbers" or "standardized"; chosen by what it holds unless given,
            see ``Target``.
        embed: False to look nothing up unless ``encodings`` says so: texts and categories are
            one-hot then, however many there are, and ``transform`` gives one matrix.

    Attributes:
        encodings: of each column after ``fit``, in the order of the table; before, those given.

    >>> table = {"size": [1.0, 3.0, None], "color": ["red", "blue", "red"]}
    >>> table["sold"] = ["no", "yes", "no"]
    >>> columns = Columns(target="sold").fit(table)
    >>> columns.feature_names
    ['size', 'size is missing', 'color=blue', 'color=red']
    >>> columns.transform(table)
    array([[-1.,  0.,  0.,  1.],
           [ 1.,  0.,  1.,  0.],
           [ 0.,  1.,  0.,  1.]], dtype=float32)
    >>> columns.targets(table), columns.classes
    (array([0, 1, 0]), ('no', 'yes'))
    """

    def __init__(
        self,
        encodings: Mapping[str, Encoding | str | None] | None = None,
        *,
        target: str | Sequence[str] | None = None,
        target_as: Task | None = None,
        embed: bool = True,
    ):
        given = {} if encodings is None else encodings
        if not isinstance(given, Mapping):
            raise TypeError(
                f"wanted encodings by the name of a column, such as {{'shop': Embedded(8)}}, got "
                f"{encodings!r}"
            )
        self._given = {name: as_encoding(name, one) for name, one in given.items()}
        self._target_names = [target] if isinstance(target, str) else list(target or ())
        self._target_as = target_as
        self.embed = bool(embed)
        self.target = self._new_target()
        self.encodings: dict[str, Encoding | None] = dict(self._given)
        self._is_fitted = False

    def _new_target(self) -> Target | None:
        if not self._target_names:
            if self._target_as is not None:
                raise ValueError("wanted a target beside target_as, got none; name its column")
            return None
        both = [name for name in self._target_names if name in self._given]
        if both:
            raise ValueError(
                f"wanted {both[0]!r} to be the target or a feature, got it as both; say what the "
                f"target is by target_as="
            )
        return Target(self._target_names, self._target_as)

    def __repr__(self) -> str:
        listed = ", ".join(
            f"{name}: {'left out' if one is None else one.kind}"
            for name, one in self.encodings.items()
        )
        known = "" if self._is_fitted else ", nothing learned yet"
        return f"<Columns {{{listed}}}{'' if self.target is None else f', {self.target!r}'}{known}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Columns) or not (self._is_fitted and other._is_fitted):
            return self is other
        return self.as_plain() == other.as_plain()

    __hash__ = None  # type: ignore[assignment]

    # Learning -------------------------------------------------------------------------------------

    def fit(self, tables: Any) -> Self:
        """Learn on the training rows; what was learned before is forgotten.

        Args:
            tables: one table; or an iterable of tables, the stretches of one that is larger, such
                as ``TableFiles``, gone through once.

        Raises:
            DataError: a column is missing or holds what cannot be encoded; the column and the first
                such row are named. Nothing has changed.
        """
        learners: dict[str, Learner] = {}
        target, rows = self._new_target(), 0
        for table in _tables(tables):
            if not learners:
                learners = self._learners(table)
            for name, learner in learners.items():
                learner.note(table.column(name))
            if target is not None:
                target.note(table)
            rows = table.first + table.rows
        if not rows:
            raise DataError("wanted at least one row to learn from, got none")
        learned = {name: learner.learned(name, self.embed) for name, learner in learners.items()}
        if not any(learned.values()):
            raise DataError(
                f"wanted at least one column to give to a network, got none but "
                f"{', '.join(self._target_names) or 'those left out'}"
            )
        self.target = None if target is None else target.learned()
        self.encodings, self._is_fitted = learned, True
        return self

    def _learners(self, table: Table) -> dict[str, Learner]:
        for name in (*self._given, *self._target_names):
            if name not in table.names:
                raise DataError(
                    f"wanted a column {name!r}, but there is none among {', '.join(table.names)}; "
                    f"name it as the table does"
                )
        return {
            name: Learner(self._given.get(name), is_chosen=name not in self._given)
            for name in table.names
            if name not in self._target_names
        }

    # Knowing --------------------------------------------------------------------------------------

    def _of(self, looks_up: bool) -> dict[str, Encoding]:
        """The encodings that look something up, or those that do not."""
        if not self._is_fitted:
            raise NotBuiltError(
                "these Columns have learned nothing yet; call columns.fit(table) with the training "
                "rows first"
            )
        known = {name: one for name, one in self.encodings.items() if one is not None}
        return {name: one for name, one in known.items() if one.looks_up == looks_up}

    @property
    def feature_names(self) -> list[str]:
        """What the features in the matrix, or in the input of numbers, are called."""
        return [one for name, encoding in self._of(False).items() for one in encoding.names(name)]

    @property
    def numbers_name(self) -> str:
        """The name of the input that has all features that are not looked up: "numbers".

        Where a column that is looked up is called so, an underscore follows.
        """
        name = NUMBERS
        while name in self._of(True):
            name += "_"
        return name

    @property
    def classes(self) -> tuple[Label, ...] | None:
        """The labels of the target by their class numbers; None where it is no class."""
        return None if self.target is None else self.target.labels

    @property
    def texts(self) -> list[str]:
        """The columns that held texts in training, to read them as such: ``TableFiles(texts=)``.

        In a CSV file that comes later all of their values may look like numbers.
        """
        labels = {
            name: one.labels or ()
            for name, one in self.encodings.items()
            if isinstance(one, OfLabels)
        }
        if self.target is not None:
            labels |= dict.fromkeys(self.target.names, self.classes or ())
        return [
            name
            for name, known in labels.items()
            if any(isinstance(one, str) for one in known) and not all(map(is_date, known))
        ]

    @property
    def outputs(self) -> int:
        """How many outputs a network for the target has: one a class, or one a column of numbers.

        Raises:
            ValueError: there is no target.
        """
        return self._some_target().outputs

    def transform(self, table: Any) -> Any:
        """What a network is given of the rows of a table; the target need not be there.

        Returns:
            Where nothing is looked up a matrix, (rows, features) float32, ``feature_names`` say of
            what. Else a dict by the names of ``inputs``: of numbers such a matrix, and for each
            column that is looked up its ids, (rows, 1) int64.

        Raises:
            DataError: a column is missing, or a value cannot be encoded; the column and the first
                such row are named.
        """
        return self._transformed(Table(table))

    def encoded(self, table: Table) -> tuple[Any, np.ndarray]:
        """Inputs and targets of some rows, whose place in all that is read errors name."""
        return self._transformed(table), self._some_target().encode(table)

    def _transformed(self, table: Table) -> Any:
        ids = {name: one.encode(table.column(name)) for name, one in self._of(True).items()}
        parts = [one.encode(table.column(name)) for name, one in self._of(False).items()]
        if not parts:
            return ids
        with np.errstate(over="ignore"):
            matrix = np.concatenate(parts, axis=1).astype(np.float32)
        if not np.isfinite(matrix).all():
            row, place = map(int, np.argwhere(~np.isfinite(matrix))[0])
            raise DataError(
                f"wanted numbers that fit into float32 in column {self.feature_names[place]!r}, "
                f"got a larger one in {table.place(row)}; mend the value, or standardize the "
                f"column and learn anew"
            )
        return {self.numbers_name: matrix, **ids} if ids else matrix

    def targets(self, table: Any) -> np.ndarray:
        """The targets in the rows of a table, as losses take them.

        Returns:
            Class numbers, (rows,) int64, for ``cross_entropy``; or numbers, (rows, columns)
            float32, for ``mean_squared_error`` and others.

        Raises:
            ValueError: there is no target.
            DataError: a target is missing, or is no class that was there in training.
        """
        return self._some_target().encode(Table(table))

    def decode(self, outputs: Any) -> np.ndarray:
        """What the outputs of a network say in the words of the table; see ``Target.decode``."""
        return self._some_target().decode(outputs)

    def _some_target(self) -> Target:
        if self.target is None:
            raise ValueError("these Columns have no target; make them with Columns(target=...)")
        return self.target

    def inputs(self) -> tuple[list[Input], Node]:
        """The inputs of a graph, and the node that joins all that they bring.

        Ids are looked up by an ``Embedding`` each; numbers stand beside their vectors.

        >>> from xpnn import Dense, Network
        >>> from xpnn.data import Embedded
        >>> table = {"price": [1.0, 2.0], "shop": ["a", "b"]}
        >>> columns = Columns({"shop": Embedded(3)}).fit(table)
        >>> inputs, features = columns.inputs()
        >>> network = Network(inputs=inputs, outputs=Dense(1)(features))
        >>> network.predict(columns.transform(table)).shape
        (2, 1)
        """
        nodes: list[Node] = []
        inputs: list[Input] = []
        if self.feature_names:
            inputs.append(Input((len(self.feature_names),), name=self.numbers_name))
            nodes.append(inputs[0])
        for name, encoding in self._of(True).items():
            ids = Input((1,), takes="integers", name=name)
            inputs.append(ids)
            nodes.append(Flatten()(Embedding(encoding.vocabulary, encoding.size)(ids)))
        return inputs, nodes[0] if len(nodes) == 1 else Concatenate()(*nodes)

    def batches(
        self, tables: Any, *, batch_size: int = 32, window: int | None = None, seed: int = 0
    ) -> EncodedBatches:
        """Batches ``(x, y)`` of tables that come a stretch at a time, for ``fit`` and ``evaluate``.

        Args:
            tables: one table, or an iterable of tables that can be gone through once for each
                epoch, such as ``TableFiles``.
            batch_size: rows in a batch; the last may be smaller.
            window: rows in the buffer in which they are shuffled; None keeps their order, which
                ``predict`` wants.
            seed: of the orders.
        """
        self._some_target()
        return EncodedBatches(self, tables, batch_size=batch_size, window=window, seed=seed)

    # In files -------------------------------------------------------------------------------------

    def as_plain(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        self._of(True)
        encodings = [
            [name, None if one is None else as_plain(one)] for name, one in self.encodings.items()
        ]
        target = None if self.target is None else self.target.as_plain()
        return {"encodings": encodings, "target": target}

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The columns again; raises ValueError if it makes no sense."""
        if not isinstance(plain, Mapping) or plain.keys() != {"encodings", "target"}:
            raise ValueError(f"Columns {str(plain)[:100]}")
        found: dict[str, Encoding | None] = {}
        for name, encoding in plain["encodings"]:
            if not isinstance(name, str) or name in found:
                raise ValueError(f"a column {str(name)[:100]!r}")
            found[name] = None if encoding is None else from_plain(encoding)
        target = None if plain["target"] is None else Target.from_plain(plain["target"])
        if target is not None and set(target.names) & set(found):
            raise ValueError("a target that is a feature")
        made = cls(
            found,
            target=None if target is None else target.names,
            target_as=None if target is None else target.task,
        )
        made.target, made.encodings, made._is_fitted = target, found, True
        return made


def _tables(source: Any) -> Iterator[Table]:
    """One table, or several, whose rows are counted on from one to the next."""
    if is_table(source):
        yield Table(source)
        return
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        Table(source)  # which says what was wanted
    first = 0
    for one in source:
        table = Table(one, first)
        first += table.rows
        yield table
