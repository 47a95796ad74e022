"""Random layers, losses and optimizers as source text; each layer takes the shape it meets."""

import contextlib
import math

import xpnn
from tests.fuzz.shrinking import needed
from xpnn import Input, Network, Sequential, TiedDense
from xpnn.errors import XpnnError
from xpnn.optimizers import matrices_only
from xpnn.trees import one_or_tuple

VOCABULARY = 7


def frozen(layer):
    """The layer, whose weights stay."""
    layer.trainable = False
    return layer


def tied(first, units, between=()):
    """A layer, others, and one with the weight of the first, turned."""
    return Sequential([first, *between, TiedDense(units, first)])


NAMES = {**{name: getattr(xpnn, name) for name in xpnn.__all__}, "frozen": frozen, "tied": tied}
NAMES["matrices_only"] = matrices_only


def made(code):
    """What an expression makes."""
    return eval(code, dict(NAMES))


class UnfitError(Exception):
    """The layers of a case do not fit each other."""


class Ways:
    """A graph while it is drawn.

    Attributes:
        inputs: the shape of each, and what it takes.
        layers: source texts.
        calls: (number of the layer, numbers of the values that it reads) of each.
        makes: how many values each call makes.
        shapes: of all values, the inputs before what the calls make.
    """

    def __init__(self, inputs):
        self.inputs, self.layers, self.calls, self.makes = inputs, [], [], []
        self.shapes = [shape for shape, _ in inputs]

    @property
    def floats(self):
        """The numbers of the values that are no ids."""
        ids = {k for k, (_, takes) in enumerate(self.inputs) if takes == "integers"}
        return [k for k in range(len(self.shapes)) if k not in ids]

    @property
    def read(self):
        return {k for _, sources in self.calls for k in sources}

    def arity(self, layer):
        """How many values the first call of a layer reads."""
        return next(len(sources) for number, sources in self.calls if number == layer)

    def call(self, layer, sources):
        """Call a new layer, given as source text, or one that was called before, by its number.

        Raises:
            UnfitError: it does not fit what it reads, or a result is large.
        """
        kept = [*self.layers], [*self.calls], [*self.makes], [*self.shapes]
        if isinstance(layer, str):
            self.layers.append(layer)
            layer = len(self.layers) - 1
        elif "RandomCrop" in self.layers[layer]:
            raise UnfitError("of another image it would cut off something")
        try:
            takes = ["floats" if k in self.floats else "integers" for k in sources]
            nodes = [Input(self.shapes[k], takes=t) for k, t in zip(sources, takes, strict=True)]
            results = made(self.layers[layer])(*nodes)
            results = results if isinstance(results, tuple) else [results]
            if max(math.prod(node.shape) for node in results) > 150:
                raise UnfitError("it is large")
            self.calls.append((layer, tuple(sources)))
            self.makes.append(len(results))
            self.shapes += [node.shape for node in results]
            Network(made(self.code(range(len(self.shapes)))))
        except (XpnnError, ValueError, UnfitError) as error:
            self.layers, self.calls, self.makes, self.shapes = kept
            raise UnfitError(str(error)) from None

    def code(self, ends):
        """The graph as source text, with the calls that it takes to make these values.

        Raises:
            UnfitError: it takes none, or not all inputs.
        """
        layers, calls, outputs = needed(len(self.inputs), self.calls, self.makes, ends)
        read = {*outputs, *(k for _, sources in calls for k in sources)}
        if not calls or not read.issuperset(range(len(self.inputs))):
            raise UnfitError("nothing is called, or an input is not read")
        inputs = [(*one, f"x{k}") for k, one in enumerate(self.inputs)]
        codes = ", ".join(self.layers[k] for k in layers)
        return f"Graph([{codes}], {inputs}, {calls}, {one_or_tuple(outputs)})"


class Draw:
    """Draws pieces of a network, each fit for the shape that it meets."""

    def __init__(self, rng):
        self.rng = rng

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def flag(self, share=0.5):
        return bool(self.rng.random() < share)

    def few(self, least=1, most=4):
        return int(self.rng.integers(least, most + 1))

    def layers(self, shape, count, depth):
        """Pieces one after another, and the shape that they end in."""
        pieces = []
        for _ in range(count):
            piece, shape = self.piece(shape, depth)
            pieces.append(piece)
        return pieces, shape

    def piece(self, shape, depth):
        """A piece that takes this shape, and the shape that it gives."""
        for _ in range(100):
            try:
                code = self.inner(shape, depth) if depth and self.flag(0.25) else self.leaf(shape)
                given = made(code).output_shape(shape)
            except (XpnnError, ValueError, UnfitError):
                continue
            if math.prod(given) <= 150:
                return code, given
        return "Identity()", shape

    def leaf(self, shape):
        groups = [self.anywhere, self.anywhere]
        own = {2: self.of_sequences, 3: self.of_images, 4: self.of_volumes}.get(len(shape))
        groups += [own] * 4 if own else []
        return self.one_of(*groups)(shape)

    def anywhere(self, shape):
        bias, units = self.flag(0.7), self.few(1, 5)
        over_all = "Softmax()" if shape[-1] > 1 else "Identity()"  # of one it is refused
        rules = self.one_of("L2(0.01)", "L1(0.02)", "MaxNorm(0.7)", "L2(0.1), MaxNorm(1.0, axis=0)")
        return self.one_of(
            f"Dense({units}, use_bias={bias})",
            f"Dense({units}, use_bias={bias})",
            f"Dense({units}).regularize({rules})",
            f"frozen(Dense({units}))",
            f"tied(Dense({units}), {shape[-1]}, [Tanh()])",
            self.one_of("Identity()", "Dropout(0.0)", "GaussianNoise(0.0)", "AlphaDropout(0.0)"),
            self.one_of("Sigmoid()", "Tanh()", "ReLU()", "SiLU()", "Softplus()", over_all),
            f"WeightNorm(Dense({units}, use_bias={bias}))",
            self.one_of("Mish()", "HardSwish()", "PReLU()", "PReLU(shared=True)"),
            "Lambda(lambda xp, Z: xp.sin(Z), lambda xp, Z, d: d * xp.cos(Z))",
            self.one_of("GLU()", "SwiGLU()", "Maxout(2)", "Maxout(3)"),
            self.one_of("LeakyReLU(0.2)", "ELU()", "ELU(0.7)", "SELU()", "GELU()", "GELU('tanh')"),
            self.one_of("BatchNorm()", "BatchNorm(0.3, epsilon=0.01)", "LayerNorm()", "RMSNorm()"),
            f"GroupNorm({self.few(1, 3)})",
            f"Standardize().adapt({[[k % 3 * row for k in range(shape[-1])] for row in (1, 2)]})",
        )

    def of_sequences(self, shape):
        time, features = shape
        walk = f"return_sequences={self.flag(0.7)}, use_bias={self.flag(0.8)}"
        way = self.one_of("", "", ", reverse=True", f", truncate={self.few(1, 3)}")
        kind = self.one_of("SimpleRNN", "LSTM", "GRU")
        units, size = self.few(), self.few(1, 3)
        steps = self.one_of(f"({time * features},)", f"({features}, {time})", "(-1, 1)")
        looks = f"causal={self.flag()}, rotate={self.flag(0.3)}"
        looks = self.one_of(looks, f"kv_heads=1, causal=True, window={size}, alibi={self.flag()}")
        return self.one_of(
            f"{kind}({units}, {walk}{way})",
            f"SimpleRNN({units}, activation='relu', {walk})",
            f"Bidirectional({kind}({units}, {walk}), merge={self.merge()!r})",
            f"MultiHeadAttention({self.few(1, 2)}, {looks}, use_bias={self.flag(0.7)})",
            f"TransformerBlock({features}, {self.few(1, 2)}, hidden={units}, {looks}, "
            f"norm_first={self.flag()}, norm={self.one_of('LayerNorm', 'RMSNorm')})",
            f"Conv1D({units}, {size}, {self.kernel(shape, 1)})",
            f"SeparableConv1D({units}, {size}, {self.separable(1)})",
            f"ConvTranspose1D({units}, {size}, {self.kernel(shape, 1)})",
            f"MaxPool1D({size}, {self.window(size, 1)})",
            self.resizing(1),
            f"AveragePool1D({size}, {self.window(size, 1)}, count_padding={self.flag()})",
            self.one_of("LearnedPositions()", f"LearnedPositions({time + 1})"),
            self.one_of("SinusoidalPositions()", "SinusoidalPositions(base=100.0)"),
            self.one_of("Flatten()", f"Reshape({steps})", "SpatialDropout(0.0)"),
            self.one_of("GlobalAveragePool()", "GlobalMaxPool()"),
            self.one_of("Permute((2, 1))", "Repeat(2)", "InstanceNorm()"),
        )

    def of_images(self, shape):
        height, width, channels = shape
        filters, size = self.few(), self.one_of(1, 2, 3, (1, 2), (3, 2))
        more = self.one_of("", "", ", output_padding=1")
        flat = self.one_of(f"({height * width}, {channels})", f"({height}, -1)", "(-1,)")
        return self.one_of(
            f"Conv2D({filters}, {size}, {self.kernel(shape, 2)})",
            f"Conv2D({filters}, {size}, {self.kernel(shape, 2)})",
            f"SeparableConv2D({filters}, {size}, {self.separable(2)})",
            f"ConvTranspose2D({filters}, {size}, {self.kernel(shape, 2)}{more})",
            f"MaxPool2D({size}, {self.window(size, 2)})",
            self.resizing(2),
            f"AveragePool2D({size}, {self.window(size, 2)}, count_padding={self.flag()})",
            self.one_of("Flatten()", f"Reshape({flat})", "SpatialDropout(0.0)"),
            self.one_of("GlobalAveragePool()", "GlobalMaxPool()"),
            self.one_of("Permute((2, 3, 1))", "InstanceNorm()"),
            self.one_of(
                *("RandomFlip(0.0)", "RandomShift(0)", "Cutout(1, rate=0.0)"),
                f"RandomCrop({(height, width)})",
            ),
        )

    def of_volumes(self, shape):
        filters, size = self.few(), self.one_of(1, 2, (1, 2, 3), (2, 1, 2))
        return self.one_of(
            f"Conv3D({filters}, {size}, {self.kernel(shape, 3)})",
            f"ConvTranspose3D({filters}, {size}, {self.kernel(shape, 3)})",
            f"MaxPool3D({size}, {self.window(size, 3)})",
            self.resizing(3),
            f"AveragePool3D({size}, {self.window(size, 3)}, count_padding={self.flag()})",
            self.one_of(
                "Flatten()", f"Reshape({(*shape[:-3], -1, shape[-1])})", "SpatialDropout(0.0)"
            ),
            self.one_of("GlobalAveragePool()", "GlobalMaxPool()"),
        )

    def resizing(self, axes):
        def each(most):
            return self.one_of(self.few(1, most), tuple(self.few(1, most) for _ in range(axes)))

        sides = self.one_of(1, tuple((self.few(0, 1), self.few(0, 2)) for _ in range(axes)))
        mode = self.one_of("nearest", "linear")
        return self.one_of(
            f"ZeroPadding({sides})",
            f"Cropping({sides})",
            f"UpSampling({each(3)}, mode={mode!r})",
            f"PixelShuffle({each(2)})",
            f"AdaptiveAveragePool({each(3)})",
        )

    def kernel(self, shape, axes):
        return f"{self.sliding(axes)}, groups={self.one_of(1, 1, 2, shape[-1])}"

    def separable(self, axes):
        return f"{self.sliding(axes)}, multiplier={self.few(1, 2)}"

    def sliding(self, axes):
        padding = self.one_of("'valid'", "'same'", "1", ["0", "(1, 0)", "(1, 0, 1)"][axes - 1])
        stride = self.one_of(1, 1, 2, [2, (1, 2), (1, 2, 1)][axes - 1])
        return (
            f"stride={stride}, padding={padding}, dilation={self.one_of(1, 1, 2)}, "
            f"use_bias={self.flag(0.7)}"
        )

    def window(self, size, axes):
        stride = self.one_of(None, 1, 2, [3, (2, 1), (2, 1, 1)][axes - 1])
        padding = self.one_of("'valid'", "'same'", "1")
        return f"stride={stride}, padding={padding}"

    def merge(self):
        return self.one_of("concatenate", "sum")

    def inner(self, shape, depth):
        if self.flag(0.3):
            return self.graph([(shape, "floats")], depth - 1)
        return self.container(shape, depth)

    def container(self, shape, depth):
        inside, given = self.layers(shape, self.few(1, 3), depth - 1)
        body = f"[{', '.join(inside)}]"
        if self.flag(0.4):
            shortcut = f", shortcut=Dense({given[-1]})" if given != shape else ""
            return f"Residual({body}{shortcut})"
        if self.flag(0.4):
            branches = [f"Sequential({body})", *self.layers(shape, self.few(0, 2), 0)[0][:1]]
            branches += [f"Dense({given[-1]})"]
            return f"Parallel([{', '.join(branches)}], merge={self.merge()!r})"
        return f"{self.one_of('Sequential', 'Recompute')}({body})"

    def graph(self, inputs, depth, several=False):
        """A graph of inputs, each (shape, "floats") or (shape, "integers"), of one output or more.

        Raises:
            UnfitError: of all that was drawn nothing fits.
        """
        ways = Ways(inputs)
        for k, (_, takes) in enumerate(inputs):
            if takes == "integers":
                ways.call(f"Embedding({VOCABULARY}, {self.few()})", [k])
        for _ in range(self.few(2, 9)):
            with contextlib.suppress(UnfitError):
                self.way(ways, depth, several)
        return ways.code(self.ends(ways) if several else [len(ways.shapes) - 1])

    def way(self, ways, depth, several):
        """One call more: of a layer that was called before, of a joint, or of a new layer."""
        fresh = [k for k in ways.floats if k not in ways.read]
        one = self.one_of(*(fresh if fresh and self.flag(0.6) else ways.floats))
        alike = [k for k in ways.floats if len(ways.shapes[k]) == len(ways.shapes[one])]
        kinds = ("again", "again", "joint", "joint", "joint", "layer", "layer", "graph", "look")
        kind = self.one_of(*kinds)
        if kind == "again" and ways.calls:
            layer, number = self.one_of(*ways.calls)[0], len(ways.calls)
            for _ in range(5):
                with contextlib.suppress(UnfitError):
                    ways.call(layer, [self.one_of(*ways.floats) for _ in range(ways.arity(layer))])
                if len(ways.calls) > number:
                    break
        elif kind == "joint":
            joint = self.one_of(
                *("Add()", "Multiply()", "Average()", "Subtract()", "Dot()", "Dot(cosine=True)"),
                *(f"Concatenate({axis})" for axis in (-1, 0, len(ways.shapes[one]) - 1)),
            )
            two = joint.startswith(("Subtract", "Dot")) or self.flag()
            ways.call(joint, [one, *(self.one_of(*alike) for _ in range(1 if two else 2))])
        elif kind == "look" and len(ways.shapes[one]) == 2:
            self.look(ways, one, self.one_of(*alike))
        elif kind == "graph" and depth:
            inputs = [(ways.shapes[k], "floats") for k in (one, alike[0])]
            ways.call(self.graph(inputs, depth - 1, several), [one, alike[0]])
        else:
            ways.call(self.piece(ways.shapes[one], depth)[0], [one])

    def look(self, ways, steps, context):
        """A call in which one sequence looks at another; masks may say at which of its steps."""
        time, features = ways.shapes[steps]
        if ways.shapes[context][1] != features and self.flag():
            ways.call(f"Dense({features})", [context])
            context = len(ways.shapes) - 1
        heads, size = self.few(1, 2), self.few(1, 3)
        options = self.one_of("", ", kv_heads=1")
        code = f"CrossAttention({heads}{options}, use_bias={self.flag(0.7)})"
        wanted = ways.shapes[context][:1]
        if self.flag():
            options += self.one_of("", f", window={size}") + self.one_of(
                "", ", rotate=True", ", alibi=True"
            )
            code = (
                f"TransformerDecoderBlock({features}, {heads}, hidden={self.few()}{options}, "
                f"norm_first={self.flag()}, norm={self.one_of('LayerNorm', 'RMSNorm')})"
            )
            wanted = (*wanted, time)
        masks = []
        for length in wanted:
            # none that a layer makes, which would learn nothing by that
            found = [k for k, (shape, _) in enumerate(ways.inputs) if shape == (length,)]
            if not found or self.flag(0.2):
                break
            masks.append(self.one_of(*found))
            if masks[-1] not in ways.floats:
                ways.call(f"PaddingMask({self.few(0, 1)})", [masks[-1]])
                masks[-1] = len(ways.shapes) - 1
        ways.call(code, [steps, context, *masks])

    def ends(self, ways):
        """The inputs and results that nobody reads, and perhaps another one."""
        unread = [k for k in range(len(ways.shapes)) if k not in ways.read]
        more = [self.one_of(*ways.floats)] if self.flag(0.3) else []
        return list(dict.fromkeys([*unread, *more]))

    def whole_graph(self):
        """A graph of one input or several, with one output or several."""
        shape = tuple(self.few(1, 4) for _ in range(self.few(1, 3)))
        inputs = [(shape, "floats")]
        for _ in range(self.few(0, 2)):
            single = tuple(1 if self.flag(0.2) else n for n in shape)  # entries that are repeated
            ids = ((self.few(1, 3),), "integers")
            inputs.append(ids if self.flag(0.3) else (single, "floats"))
        return self.graph(inputs, 2, several=True)

    def network(self):
        """The pieces of a network, its input shape, and the shape of its outputs."""
        kind = self.one_of("numbers", "sequence", "sequence", "image", "volume", "ids")
        if kind == "numbers":
            shape = inputs = (self.few(1, 6),)
        elif kind == "image":
            shape = inputs = (self.few(2, 6), self.few(2, 6), self.few(1, 4))
        elif kind == "volume":
            shape = inputs = (self.few(1, 4), self.few(2, 4), self.few(2, 4), self.few(1, 3))
        else:
            shape = inputs = (self.few(2, 6), self.few(1, 5))
        first = []
        if kind == "ids":
            inputs, features = inputs[:1], inputs[1]
            first = [f"Embedding({VOCABULARY}, {features})"]
            if self.flag(0.3):
                first = [f"tied({first[0]}, {VOCABULARY}, [Tanh()])"]
                shape = (*inputs, VOCABULARY)
        pieces = first + self.layers(shape, self.few(1, 6), 2)[0]
        if kind in ("ids", "sequence") and self.flag(0.3):
            cut = self.few(1, len(pieces))  # behind it time may change
            pieces = [f"Masked([{', '.join(pieces[:cut])}])", *pieces[cut:]]
        try:
            return pieces, inputs, made(f"Sequential([{', '.join(pieces)}])").output_shape(inputs)
        except XpnnError:  # such as a mask of other steps: others are drawn
            return self.network()

    def loss(self, pieces, shape):
        """A loss with its options, and the head that it wants."""
        name = self.one_of(
            *("mean_squared_error", "mean_absolute_error", "huber", "quadratic_cost"),
            *("log_cosh", "pinball", "cosine_distance", "poisson", "gaussian"),
            *("cross_entropy", "cross_entropy", "cross_entropy", "focal", "kl_divergence"),
            *("binary_cross_entropy", "binary_cross_entropy", "binary_focal", "hinge", "dice"),
            *("triplet", "contrastive", "ctc"),
        )
        options, classes = {}, self.few(2, 4)
        chosen = {
            "huber": ("threshold", 0.5, 1.0),
            "pinball": ("quantile", 0.2, 0.9),
            "focal": ("gamma", 0.5, 2.0),
            "binary_focal": ("gamma", 0.5, 2.0),
            "triplet": ("margin", 0.2, 1.0),
            "contrastive": ("temperature", 0.1, 0.5),
        }
        if name in chosen:
            option, *values = chosen[name]
            options[option] = self.one_of(*values)
        if name == "cross_entropy" and self.flag():
            options["label_smoothing"] = 0.1
        if name == "cross_entropy" and self.flag(0.3):
            options["ignore_index"] = -1
        if name in ("cross_entropy", "focal") and self.flag():
            options["class_weight"] = [self.one_of(0.5, 1.0, 2.25) for _ in range(classes)]
        if name in ("binary_cross_entropy", "binary_focal", "hinge") and self.flag():
            options["class_weight"] = [1.0, 2.5]
        pieces += self.head(name, classes, len(shape))
        if name == "binary_cross_entropy" and self.flag(0.3):
            options["from_logits"] = False
            pieces.append("Sigmoid()")
        return name, options

    def head(self, loss, classes, axes):
        """Layers behind outputs of so many axes that give what a loss takes."""
        if loss in ("poisson", "gaussian"):  # exp of these is no large number
            return [f"Dense({2 * classes})", "Tanh()"]
        forms = {"triplet": (3, classes), "contrastive": (2, classes), "ctc": (5, classes)}
        forms["dice"] = (3, 2, classes)
        if loss in forms:
            form = forms[loss]
            return ["Flatten()"] * (axes > 1) + [f"Dense({math.prod(form)})", f"Reshape({form})"]
        values = ("mean_squared_error", "mean_absolute_error", "huber", "quadratic_cost")
        return [] if loss in (*values, "log_cosh", "pinball") else [f"Dense({classes})"]

    def losses_of_outputs(self, graph):
        """A loss for each output of a graph, and what it counts for in their sum."""
        shapes = graph.output_shape(graph.input_shapes)
        ranges = graph.output_range(None)
        if len(graph.output_numbers) == 1:
            shapes, ranges = [shapes], [ranges]
        for shape, known in zip(shapes, ranges, strict=True):
            logits = known is None or known[0] < 0
            values = ("mean_squared_error", "mean_absolute_error", "quadratic_cost", "log_cosh")
            classes = ("cross_entropy", "kl_divergence") if shape[-1] > 1 and logits else ()
            yield self.one_of(*values, "pinball", *classes), self.one_of(0.0, 0.25, 1.0, 1.0, 3.0)

    def optimizer(self, clips=("", ", clip=ClipByGlobalNorm(0.5)", ", clip=ClipByValue(0.05)")):
        rate = self.one_of(0.01, 0.1)
        shared = self.one_of(
            "", "", ", weight_decay=0.1", ", weight_decay=0.1, decays=matrices_only"
        )
        shared += self.one_of(*clips)
        return self.one_of(
            f"SGD({rate}{shared})",
            f"SGD({rate}, momentum=0.8, nesterov={self.flag()}{shared})",
            f"Adam({rate}, epsilon=0.01{shared})",  # a gradient of rounding is none, so divided
            f"AdamW({rate}, beta1=0.7, epsilon=0.01{shared})",
            f"NAdam({rate}, epsilon=0.01{shared})",
            f"RMSprop({rate}, rho=0.8, epsilon=0.01, momentum={self.one_of(0.0, 0.5)}{shared})",
            f"Adagrad({rate}, epsilon=0.01{shared})",
            f"Adadelta({rate}, rho=0.8, epsilon=0.01{shared})",
            f"Adamax({rate}, epsilon=0.01{shared})",
            f"RAdam({rate}, beta2=0.9, epsilon=0.01{shared})",
        )
