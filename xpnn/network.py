"""Network: layers in order, bound to one backend; parameters and state by name."""

import copy
import functools
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from xpnn.arguments import (
    FixedAttributes,
    as_seed,
    checked,
)
from xpnn.backends import Backend, get_backend
from xpnn.drawing import draw
from xpnn.errors import AssignmentError, ShapeError, XpnnError
from xpnn.initializers import zeros_for
from xpnn.layers import Graph, Layer, Sequential
from xpnn.layers.containers import check_places
from xpnn.layers.given import root_of
from xpnn.layers.graphs.parts import up_to
from xpnn.layers.nodes import Node, is_several
from xpnn.layers.regularization import Constraint, Penalty, check_reach
from xpnn.layers.tying import ties
from xpnn.moving import copy_with_values, moved, take_values, unbuilt_copy
from xpnn.named_inputs import NamedInputs
from xpnn.names_elsewhere import AnswersOtherNames
from xpnn.prediction import as_probabilities, in_batches, output_of_call, outputs_kept
from xpnn.saving.folder import is_model_folder, read_folder
from xpnn.saving.model import read_model, save
from xpnn.summary import Summary, network_table, summarize
from xpnn.training_lock import TrainingLock
from xpnn.trees import as_tuple, one_or_tuple, tree_map
from xpnn.typing import Array, Arrays, Shape, Shapes

BOUND = {
    "root", "backend", "all_layers", "_leaves", "_inspected", "_entries", "_ties", "param_refs",
    "state_refs", "_is_made", "_lock", "_copy", "awaits_backward", "passes", "samples",
    "_trained_by",
}  # fmt: skip
"""Attributes that belong to the layers and arrays of one network, and are made anew for another."""

ANY_NUMBER = 2**62
FLOATS = ("float16", "bfloat16", "float32", "float64")


class Network(NamedInputs, FixedAttributes, AnswersOtherNames):
    """Layers, one after another or as a graph, with their arrays on one backend.

    The backend belongs to the network and never to the process: two networks on two backends live
    side by side.

    Args:
        layers: in the order in which data flows; or a ``Graph``, in place of inputs and outputs.
        input_shape: of one sample, without the batch axis: (64,) or (28, 28, 1). A graph knows it.
        backend: "numpy", "cupy", "torch", "jax", ... with an optional device after a colon, or a
            Backend; see ``get_backend``.
        inputs, outputs: of a graph, in place of layers: nodes, of which those of ``Input`` are the
            inputs. One node, or a list or dict of several; then arrays come and go as tuples, or as
            dicts by name.
        seed: of the starting weights and of dropout's masks; one seed means the same of both on
            every backend.
        dtype: of parameters and of all that is computed from them.

    Raises:
        ShapeError: the layers do not fit each other; the message names the layer.
        ValueError: a rule of ``regularize`` acts on nothing; a graph is not connected, or names a
            node twice.
        BackendUnavailable: the backend does not work here.

    Attributes:
        attachments: what belongs with the network, by names of yours: how its data are prepared,
            ``Columns`` or a ``Vocabulary``, and plain values such as texts, numbers, lists and
            dicts. Files and checkpoints hold them, copies have them.

    >>> from xpnn import Dense, Network, ReLU
    >>> net = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,))
    >>> sorted(net.params)
    ['0.dense.bias', '0.dense.weight', '2.dense.bias', '2.dense.weight']

    A graph of two inputs:

    >>> from xpnn import Concatenate, Input
    >>> size, color = Input((2,), name="size"), Input((3,), name="color")
    >>> hidden = ReLU()(Dense(8)(Concatenate()(size, color)))
    >>> net = Network(inputs=[size, color], outputs=Dense(1)(hidden))
    >>> net.predict({"size": [[0.0, 1.0]], "color": [[1.0, 0.0, 0.0]]}).shape
    (1, 1)
    """

    _copy: Any = None  # what was made of it for the graph that is being written

    awaits_backward = False
    """Whether ``forward`` was called since ``backward``, so that ``grads`` are of another batch."""

    passes = 0
    """How many calls of ``forward`` and ``backward`` there were."""

    fixed = (
        *("layers", "root", "inputs", "outputs", "input_shape", "output_shape", "backend", "seed"),
        "dtype",
    )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            raise AssignmentError(
                "trainable of a Network lists what is trained; to freeze all of it write "
                "network.freeze(), and one layer by its name, as in network.freeze('0.*'); "
                "network.unfreeze does the reverse"
            )
        super().__setattr__(name, value)

    @checked
    def __init__(
        self,
        layers: Sequence[Layer] | Graph | None = None,
        input_shape: Shape | None = None,
        backend: str | Backend = "numpy",
        *,
        inputs: Any = None,
        outputs: Any = None,
        seed: int = 0,
        dtype: str = "float32",
    ):
        if not isinstance(dtype, str) or dtype not in FLOATS:
            raise ValueError(f"dtype is one of {', '.join(FLOATS)}, got {dtype!r}")
        root, self.input_shape = root_of(layers, input_shape, inputs, outputs)
        self.dtype, self.seed = dtype, as_seed(seed)
        self.attachments: dict[str, Any] = {}
        self._build(root, backend)
        layers_of: dict[Penalty | Constraint, list[Layer]] = {}
        for layer in self.all_layers:
            for rule in layer.regularizers:
                layers_of.setdefault(rule, []).append(layer)
        for rule, regularized in layers_of.items():
            check_reach([rule], regularized)

    def _build(self, root: Sequential | Graph, backend: str | Backend) -> None:
        check_places(root)
        shape: Shapes = root.output_shape(self.input_shape)  # before a library's import
        if is_several(shape) and not isinstance(root, Graph):
            raise ShapeError(
                f"a Network of a list of layers has one output, and {root.layers[-1]!r} has "
                f"{len(shape)}; with x = Input({self.input_shape}) write Network(inputs=x, "
                f"outputs=...) and call the layers on it"
            )
        self.backend, self.root, self._lock = get_backend(backend), root, TrainingLock()
        self.backend.dtype(self.dtype)
        self.output_shape = root.build(
            self.input_shape, self.backend, seed=self.seed, dtype=self.dtype
        )
        with self.backend.on_device():
            take_values(root, self.backend)
        self._ties = ties(root)

    def _build_again(self, root: Sequential | Graph, backend: str | Backend) -> None:
        """Build a copy of layers that were built before: the seeds of their masks stay."""
        seeds = [layer.seed for _, layer in root.walk()]
        self._build(root, backend)
        for layer, seed in zip(self.all_layers, seeds, strict=True):
            layer.seed = seed
        self._is_made = True

    def to(self, backend: str | Backend) -> Self:
        """The same network on another backend or device: a new one; this one stays as it is.

        The layers are copied, with their hyperparameters as they are now, what is frozen and what
        keeps weights small; parameters and state come with them, in the dtype that they have. The
        two networks share no arrays. To move what an optimizer knows, too, see ``Trainer.to``.

        Args:
            backend: as for ``Network``.

        Raises:
            BackendUnavailable: the backend does not work here, or does not have the dtype.

        >>> from xpnn import Dense, Network
        >>> net = Network([Dense(2)], input_shape=(3,), backend="array-api-strict")
        >>> net.to("numpy")
        Network([Dense(2)], input_shape=(3,), backend='numpy')
        """
        network = object.__new__(type(self))
        vars(network).update(self._own_attributes())
        network._build_again(unbuilt_copy(self.root), backend)
        with network.backend.on_device():
            network.params = moved(self.params, network.params, network.backend)
            network.state = moved(self.state, network.state, network.backend)
        return network

    def move_in_place(self, backend: Backend) -> None:
        """Move this network itself to other devices of its library, such as all of them.

        Raises:
            XpnnError: another thread trains the network.
        """
        if backend is self.backend:
            return
        with self.at_rest(), backend.on_device():
            params = moved(self.params, self.params, backend)
            state = moved(self.state, self.state, backend)
            for layer in self.all_layers:
                layer.move_in_place(backend)
            vars(self)["backend"] = backend
            self.params, self.state = params, state

    def blank_on(self, backend: Backend) -> Self:
        """The same network on another backend, with zeros for all values: to be recorded there."""
        network = object.__new__(type(self))
        vars(network).update(self._own_attributes())
        with zeros_for(ANY_NUMBER):
            network._build_again(unbuilt_copy(self.root), backend)
        return network

    def _own_attributes(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name not in BOUND}
        return {**own, "attachments": dict(self.attachments)}

    def with_head(
        self, layers: Sequence[Layer], *, after: str | None = None, seed: int | None = None
    ) -> "Network":
        """A new network on the same backend: what this one has learned, and other last layers.

        The body is a copy, with its values, hyperparameters and what is frozen; this network stays
        as it is, and the two share no arrays. ``freeze`` keeps the body as it is, ``factors`` of
        the optimizer let it learn slowly.

        Args:
            layers: the head: what reads what the body gives.
            after: the name of the last layer of the body, which is in the network itself and not
                inside of a layer; unless given, all but the last one stay.
            seed: of the head's starting weights, and of all masks; this network's, unless given.

        Raises:
            ValueError: there is no such layer; or, of a graph, it is not plain where a head goes.
            ShapeError: the head does not fit.

        >>> from xpnn import Dense, Network, ReLU
        >>> net = Network([Dense(8), ReLU(), Dense(10)], input_shape=(3,))
        >>> net.with_head([Dense(5)]).layers
        (Dense(8), ReLU(), Dense(5))
        """
        if not isinstance(layers, Sequence):
            raise TypeError(f"with_head wants a list of layers, got {layers!r}")

        make = functools.partial(
            Network,
            backend=self.backend,
            seed=self.seed if seed is None else seed,
            dtype=self.dtype,
        )
        with self.at_rest():
            root = copy_with_values(self.root)
            for layer in () if root.trainable else root.layers:
                layer.trainable = False  # what was frozen as a whole
            if isinstance(root, Graph):
                inputs, node = up_to(root, after)
                for layer in layers:
                    node = layer(node)
                network = make(inputs=inputs, outputs=node)
            else:
                names = list(root.children())
                if after is not None and after not in names:
                    raise ValueError(f"wanted after to be one of {', '.join(names)}, got {after!r}")
                count = len(names) - 1 if after is None else names.index(after) + 1
                network = make([*root.layers[:count], *layers], self.input_shape)
            network.attachments.update(self.attachments)
            return network

    # Keeping it ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the layers, their parameters and their state into one file, for ``xpnn.load``.

        The file is in the safetensors format: arrays in their exact dtypes, and what the layers are
        made of as JSON in its metadata. There is no code in it. An old file of that name is
        replaced when the new one is whole. Where a Trainer trains it in several processes, all
        call it, process 0 writes, and the others wait; see ``Trainer.alone``.

        Args:
            path: of the file; folders that are missing are made.

        Raises:
            XpnnError: a layer cannot be described, such as one of your own that has no name in
                files, see ``xpnn.register``; the message says which one and what to do. Or another
                thread trains the network.
            OSError: the file cannot be written; an old one is unharmed.
        """
        self.write_once("Network.save", functools.partial(save, self, path))

    @checked
    def to_onnx(
        self,
        path: str | Path,
        *,
        batch: str | int = "batch",
        free: Mapping[Any, Any] | None = None,
        names: Mapping[str, str] | None = None,
        dtypes: Mapping[str, str] | None = None,
        opset: int | None = None,
        probabilities: Any = None,
        past: int | None = None,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write what the network does outside of training as an ONNX model, for other programs.

        It needs the extra ``onnx``. The layers' own ``forward`` runs once on stand-ins for arrays,
        so that layers of your own are exported as well. What is written has passed ONNX's checker.
        The arrays are in the file, which holds up to 2 GiB, in the dtype of the network.

        Args:
            path: of the file; folders that are missing are made.
            batch: a name for the axis of samples, of which any number may come in then; or how many
                samples come in.
            free: further axes of any length: their names by their numbers, the batch being axis 0,
                as in ``{1: "time"}``; of several inputs by name, ``{"words": {1: "time"}}``. Axes
                of one name are of one length. Not all layers take that: a Flatten, for one, leads
                to a Dense whose weights are for one length.
            names: what inputs and outputs are called in the file, by their names here, which are
                those of ``network.inputs`` and ``network.outputs``: "x" and "output_0" where there
                is but one.
            dtypes: of inputs and outputs by their names here, as in ``{"x": "uint8"}``: the model
                then converts them. Unless given they are that of the network, and int64 for ids.
            opset: the version of ONNX's operators; 18 unless given, and 22 for bfloat16.
            probabilities: as for ``predict``.
            past: of a network that ``generate`` writes with, to export one step of it: how many
                positions there is room for. The model reads one position, (batch, 1), and, beside
                that, what each layer remembers, which it gives again as it is afterwards, each by
                the name of the input and ``.after``. All of that begins as zeros.
            description: for readers.
            metadata: texts by name, kept in the file.

        Raises:
            ExportError: a layer does what ONNX has no operators for, or needs a length that is
                free; the message names the layer. No file is written.
            BackendUnavailable: the package ``onnx`` is not installed.
            ValueError: names, axes, dtypes or the opset do not fit the network.
            OSError: the file cannot be written; an old one is unharmed.
        """
        from xpnn.onnx.exporting import export  # which few need

        write = functools.partial(
            export,
            self,
            path,
            batch=batch,
            free=free or {},
            names=names or {},
            dtypes=dtypes or {},
            opset=opset,
            past=past,
            probabilities=probabilities,
            description=description,
            metadata=metadata or {},
        )
        self.write_once("Network.to_onnx", write)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the layers by their classes, and all arrays on the host."""
        kept = {"root": unbuilt_copy(self.root), "backend": self.backend}
        own = self._own_attributes()
        with self.at_rest():
            return {**own, **kept, "values": self.numpy_arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        root, backend, values = (state.pop(name) for name in ("root", "backend", "values"))
        vars(self).update(state)
        self._build_again(root, backend)
        self.load(values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """An independent network on the same backend; caches and gradients stay behind."""
        network = self.to(self.backend)
        memo[id(self)] = network
        pairs = zip(self.walk(), network.walk(), strict=True)
        memo.update({id(one): other for (_, one), (_, other) in pairs})
        vars(network).update(copy.deepcopy(self._own_attributes(), memo))
        return network

    # Running it ---------------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = False) -> Array:
        """The outputs for a batch of inputs; the layers keep what ``backward`` needs.

        Args:
            x: (batch, *input_shape), of any library.
            training: whether layers such as Dropout act.
        """
        room = self.backend.room_for("a forward pass", "take a smaller batch")
        with room, self.backend.on_device():
            self.check_ready()
            return self.run(self.asarray(x), training)

    def run(self, x: Arrays, training: bool) -> Any:
        """``forward`` of arrays that are as the layers are to have them."""
        x = tree_map(self.backend.copied, x)  # whatever is in x by ``backward``
        self.awaits_backward, self.passes = True, self.passes + 1
        made = self.root.forward(x, training)
        self.samples = as_tuple(made)[0].shape[0]
        return self.outputs_by_name(made)

    def backward(self, delta: Any, to_input: bool = True) -> Any:
        """Hand ``delta``, dL/d(output), back through the layers, which write their ``grads``.

        Args:
            delta: of the shape of the last ``forward``'s output, of any library; of several outputs
                a tuple of such, or a dict by name, in which None stands for zeros.
            to_input: whether dL/d(input) is wanted; without it, the product of the layer that sees
                the data is saved, which in a small network is a third of the step.

        Returns:
            dL/d(input), or None.

        Raises:
            ShapeError, DataError: it is not of that shape, or holds no numbers.
            XpnnError: the layers keep nothing, as there was no ``forward``.
        """
        given = [self.as_deltas(delta)]
        del delta  # once the last layer has read it, nobody holds it
        return self.run_back(given.pop(), to_input)

    def run_back(self, delta: Arrays, to_input: bool = True) -> Any:
        """``backward`` of arrays that are as the layers are to have them."""
        for entry in self._entries:
            entry.passes_back = to_input
        given = [delta]
        del delta
        try:
            with self.backend.on_device():
                back = self.root.backward(given.pop())
            self.awaits_backward, self.passes = False, self.passes + 1
            return back
        except KeyError as error:
            if any(layer.cache for _, layer in self.walk()):
                raise
            raise XpnnError(
                "backward needs what forward kept, and nothing is kept; call "
                "network.forward(x, training=True) first"
            ) from error
        finally:
            for entry in self._entries:
                entry.passes_back = True

    @checked
    def predict(self, x: Any, batch_size: int = 256, *, probabilities: Any = None) -> Array:
        """The outputs for any number of inputs, ``batch_size`` at a time, in prediction mode.

        Returns an array of the network's own library, on its device. Other libraries read it in
        place by DLPack, as in ``torch.from_dlpack(network.predict(x))``. Of a file that NumPy maps
        into memory, one batch at a time is read. Of no inputs there are no outputs: (0, ...).

        Args:
            x: inputs, (samples, *input_shape), of any library; or what gives batches of them, as
                ``fit`` takes it: a loader, a generator, or a data set of Hugging Face. Targets in
                these are passed over.
            batch_size: samples at a time; batches of a loader are taken as they come.
            probabilities: the loss that the network was trained with, such as
                ``xpnn.cross_entropy``, to get the probabilities that its outputs stand for: their
                softmax or sigmoid, or what they are.

        Raises:
            ValueError: outputs stand for no probabilities to that loss.
        """
        return self.outputs_by_name(
            in_batches(self, x, batch_size, as_probabilities(self, probabilities))
        )

    @checked
    def features(self, x: Any, layer: str, batch_size: int = 256) -> Arrays:
        """The outputs of a layer inside for any number of inputs, in prediction mode.

        Args:
            x, batch_size: as for ``predict``.
            layer: its full name, as ``summary`` shows it, at any depth. Of one that is called
                several times, in a graph, the call is named, too: "0.dense, call 2".

        Raises:
            KeyError: there is no layer of that name.
            ValueError: it is called several times, and the name does not say which, or never.

        >>> from xpnn import Dense, Network, ReLU
        >>> network = Network([Dense(64), ReLU(), Dense(10)], input_shape=(8,))
        >>> network.features([[0.5] * 8], "1.relu").shape
        (1, 64)
        """
        name = layer.partition(", call ")[0]
        with outputs_kept(self[name]) as calls:
            return in_batches(self, x, batch_size, lambda _: output_of_call(calls, layer))

    def __call__(self, *x: Any) -> Any:
        """The outputs for a batch of inputs, in prediction mode; of nodes, the nodes of outputs.

        Called on nodes, a network is a layer in another: a copy of all layers, which begins with
        the values that this network has when the other one is made. Called again for the same
        graph, it does the same with the same weights. This network stays as it is.

        Args:
            x: arrays as ``forward`` takes them; or nodes: one, or several, in order or by name.

        >>> from xpnn import Dense, Input, Network, ReLU
        >>> body = Network([Dense(8), ReLU()], input_shape=(3,))
        >>> x = Input((3,))
        >>> sorted(Network(inputs=x, outputs=Dense(2)(body(x))).params)[:2]
        ['0.sequential.0.dense.bias', '0.sequential.0.dense.weight']
        """
        given = one_or_tuple(x)
        parts = given.values() if isinstance(given, Mapping) else given
        first = next(iter(parts), None) if isinstance(given, Mapping | list | tuple) else given
        if isinstance(first, Node):
            return self.outputs_by_name(self._as_layer()(*self.inputs_in_order(given)))
        return self.forward(given)

    def _as_layer(self) -> Layer:
        """A copy to be called on nodes: the same one until a network is made of it."""
        layer: Layer | None = self._copy and self._copy()
        if layer is None or layer.built:
            layer = copy_with_values(self.root)
            layer._of_network = True
            self._copy = weakref.ref(layer)  # which lives as long as the nodes that it has made
        return layer

    @checked
    def summary(self, optimizer: Any = None, batch: int | None = None) -> Summary:
        """A table of the layers: shapes, parameters, bytes and work; print it to read it.

        Args:
            optimizer: the one that will train it, for the memory that its slots take.
            batch: samples, to tell what ``forward`` and ``backward`` take at their highest moment:
                parameters, state, inputs, what all layers keep, deltas and gradients. Both are
                gone through with a copy and two batches of zeros, a quarter and half as large, but
                of 2 and 4 at least. What a training step takes, with loss and optimizer, says
                ``Trainer.summary(batch)``.

        Raises:
            ShapeError: nothing can be made of so few samples.
            OutOfMemory: a copy and its passes on few samples do not fit into the device's memory.

        >>> from xpnn import Dense, ReLU
        >>> network = Network([Dense(512), ReLU(), Dense(10)], input_shape=(784,))
        >>> network.summary(batch=4096).peak_bytes > network.summary(batch=1024).peak_bytes
        True
        """
        return summarize(self, optimizer, batch)

    def draw(self, path: str | Path) -> None:
        """Draw who feeds whom, as an SVG picture, which browsers show.

        Each layer is a box with its name, what makes one like it, and the shape that one sample has
        behind it; a container is one box. A layer that is called several times has a box for each
        call. Inputs and outputs are round. The picture is readable on light and dark pages.

        Args:
            path: of the file, which ends in ``.svg``; folders that are missing are made.

        Raises:
            ValueError: it does not end so.
            OSError: the file cannot be written; an old one is unharmed.

        >>> import tempfile
        >>> from xpnn import Dense, Network, ReLU
        >>> network = Network([Dense(64), ReLU(), Dense(10)], input_shape=(64,))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     network.draw(f"{folder}/network.svg")
        """
        draw(self, path)

    def __repr__(self) -> str:
        if isinstance(self.root, Graph):
            return f"Network({self.root!r}, backend={self.backend.spec!r})"
        inside = ", ".join(map(repr, self.layers))
        return f"Network([{inside}], input_shape={self.input_shape}, backend={self.backend.spec!r})"

    def _repr_html_(self) -> str:
        """The table of the layers, for notebooks; nothing runs through the network."""
        return network_table(self)


def load(
    path: str | Path, backend: str | Backend = "numpy", *, dtype: str | None = None
) -> Network:
    """The network in a file that ``Network.save`` wrote, on any backend and device.

    No code is run that the file could choose: it names layers that come with xpnn, or that were
    registered with ``xpnn.register``, and gives their arguments. What it claims is checked against
    its size before memory is asked for, and all of its bytes against a checksum.

    Args:
        path: of the file, or of a folder that ``xpnn.saving.save_folder`` wrote.
        backend: as for ``Network``.
        dtype: in place of the one that was saved, to which the values are rounded; for a network in
            bfloat16, say, on a backend that lacks it.

    Returns:
        The network, built, with its parameters, its state and its attachments.

    Raises:
        FileError: the file is torn, damaged, of another format or a newer version, holds a layer
            that is not known here, or describes layers that cannot be made or do not fit its
            arrays. The message says which.
        BackendUnavailable: the backend does not work here, or does not have the dtype.
        OSError: there is no such file, or it cannot be read.

    >>> import tempfile
    >>> from xpnn import Dense, Network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Network([Dense(2)], input_shape=(3,)).save(f"{folder}/small.safetensors")
    ...     load(f"{folder}/small.safetensors", "array-api-strict")
    Network([Dense(2)], input_shape=(3,), backend='array-api-strict')
    """
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"dtype is one of {', '.join(FLOATS)}, got {dtype!r}")
    make = functools.partial(Network, backend=get_backend(backend))
    return (read_folder if is_model_folder(path) else read_model)(path, make, dtype)
