"""Lines of code that errors say to write, beside those about arrays: each is tried.

A new one needs a row here, or the name of the file that tries it.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn import (
    GRU,
    SGD,
    Accuracy,
    Adam,
    AdamW,
    Checkpoint,
    Conv1D,
    Dense,
    Embedding,
    Lambda,
    Layer,
    LearnedPositions,
    MultiHeadAttention,
    Network,
    Residual,
    Softmax,
    Standardize,
    Trainer,
)
from xpnn.backends import get_backend
from xpnn.data import Columns, NpzShards, Vocabulary
from xpnn.guide import HiddenLayer, InputLayer, OutputLayer
from xpnn.layers.registration import KINDS
from xpnn.saving import Attachment, load_torch_weights, save_torch_weights, save_weights

pytestmark = pytest.mark.host_only

X, Y = np.ones((8, 3), np.float32), np.arange(8) % 2
QUIET = {"progress": False}
OURS = {"0.weight": np.ones((2, 3), np.float32), "0.bias": np.ones(2, np.float32)}


def network(*layers):
    return Network([*layers, Dense(2)], (3,))


def trainer(optimizer=None, **more):
    return Trainer(network(), xpnn.cross_entropy, optimizer or SGD(0.1), **more)


def frozen_whole(again=False):
    made = network()
    made.freeze()
    if again:
        made.unfreeze()
    return made


def elsewhere():
    """An array of array-api-strict's second device."""
    return get_backend("array-api-strict:device2").asarray(X)


def on_first():
    return Network([Dense(2)], (3,), "array-api-strict:device1")


def saved_archive(folder):
    np.savez(folder / "data.npz", inputs=X, targets=Y)
    return folder / "data.npz"


def unfed():
    return OutputLayer(1, HiddenLayer(2, InputLayer(X)))


def fed(layer):
    layer.upper_layer.feedforward()
    layer.feedforward()
    layer.backprop(np.ones((8, 1)))


def switched(slots=None):
    one = trainer()
    one.step(X, Y)
    one.optimizer = Adam(0.1)
    if slots == "fresh":
        one.opt_state = None
    one.step(X, Y)


def updated(*calls):
    one, in_half = network(), any("half" in call for call in calls)
    updater = xpnn.Updater(one, SGD(0.1), precision="float16" if in_half else None)
    made = {
        "forward": lambda: one.forward(X, training=True),
        "backward": lambda: one.backward(np.ones((8, 2), np.float32)),
        "step": lambda: None,
        "in half": lambda: None,
        "forward in half": lambda: updater.forward(X),
        "backward in half": lambda: updater.backward(np.ones((8, 2), np.float32)),
    }
    for call in calls:
        made[call]()
    updater.step()


def called_for_two(*, again):
    body = network()
    ends = [(x, Dense(1)(body(x))) for x in (xpnn.Input((3,)), xpnn.Input((3,)))]
    made = [Network(inputs=ends[0][0], outputs=ends[0][1])]
    x, out = (ends[1][0], Dense(1)(body(ends[1][0]))) if again else ends[1]
    made.append(Network(inputs=x, outputs=out))
    for one in made:
        (name,) = (name for name in one.params if name.endswith("sequential.0.dense.weight"))
        np.testing.assert_array_equal(one.params[name], body.params["0.dense.weight"])


def with_a_head_that_nobody_reads(freeze=None):
    inner = xpnn.Input((3,))
    hidden = Dense(4)(inner)
    x = xpnn.Input((3,))
    read, _ = xpnn.Graph.of(inner, [Dense(2)(hidden), Dense(3)(hidden)])(x)
    one = Network(inputs=x, outputs=read)
    if freeze:
        one.freeze(freeze)
    Trainer(one, xpnn.cross_entropy, SGD(0.1)).fit(X, Y, **QUIET)


def updated_half(fill=None, freeze=None):
    x = xpnn.Input((3,))
    one = Network(inputs=x, outputs={"a": Dense(1)(x), "b": Dense(2)(x)})
    updater, out = xpnn.Updater(one, SGD(0.1)), one.forward(X, training=True)
    one.backward({"a": out["a"], "b": fill and fill(out["b"])})
    if freeze:
        one.freeze(freeze)
    updater.step()


def reloaded(folder, optimizer):
    xpnn.Updater(network(), Adam(0.1)).save(folder / "u.safetensors")
    xpnn.Updater(network(), optimizer).load(folder / "u.safetensors")


def checkpointed(folder, **more):
    trainer().fit(X, Y, epochs=2, callbacks=[Checkpoint(folder / "run")], **QUIET)
    one = trainer()
    if not more:  # one epoch less than the folder knows of
        one.fit(X, Y, callbacks=[Checkpoint(folder / "run")], **QUIET)
    else:
        one.fit(X, Y, epochs=3, callbacks=[Checkpoint(folder / "run")], **more, **QUIET)


def other_run(folder, **more):
    trainer().fit(X, Y, callbacks=[Checkpoint(folder / "run")], **QUIET)
    trainer(AdamW(0.1)).fit(X, Y, epochs=2, resume=folder / "run", **QUIET)


def frozen(*patterns):
    one = network(Dense(4))
    one.freeze(*patterns)
    assert not one.trainable() - {"1.dense.weight", "1.dense.bias"}


def compiled(flag):
    Trainer(
        Network([Dense(2)], (3,), "array-api-strict"), xpnn.cross_entropy, SGD(0.1), compile=flag
    ).step(X, Y)


class Own(Layer):
    """A layer that no file knows."""

    def init_params(self, input_shape, rng):
        return {"factor": np.ones(input_shape)}

    def forward(self, Z, training=False):  # noqa: N803
        return Z * self.params["factor"]


def registered():
    class Known(Own):
        pass

    return xpnn.register("tests.Known")(Known)


SINE = (lambda xp, z: xp.sin(z), lambda xp, z, delta: delta * xp.cos(z))


def of_lambda():
    class Own(Lambda):
        def __init__(self):
            super().__init__(*SINE)

    return xpnn.register("tests.Known")(Own)()


def of_two_dtypes():
    one = network(Dense(2))
    one.params = {name: value.astype(np.float16) for name, value in one.params.items()}
    return one


def brought_together():
    one = of_two_dtypes()
    there = network(Dense(2))
    there.load(one.numpy_arrays())
    return there


def logged(folder, **more):
    (folder / "log.csv").write_bytes(bytes(range(256)))
    trainer(callbacks=[xpnn.CSVLogger(folder / "log.csv", **more)]).fit(X, Y, **QUIET)


def written(*layers, **more):
    network = Network([Embedding(5, 4), layers[0], Dense(5), *layers[1:]], (6,))
    list(xpnn.generate(network, [1, 2], 2, **more))


def translated(**more):
    source, text = (xpnn.Input((3,), takes="integers", name=name) for name in ("source", "text"))
    vectors = Embedding(5, 4)
    looked = xpnn.TransformerDecoderBlock(4, 1)(vectors(text), vectors(source))
    xpnn.generate(Network(inputs=[source, text], outputs=Dense(5)(looked)), [1], 2, **more)


def fitting(x):
    return Trainer(Network([Dense(3)], (3,)), xpnn.mean_squared_error, SGD(0.1)).fit(*x, **QUIET)


def of_a_file(folder, **options):
    save_weights(network(), folder / "w.safetensors")
    xpnn.load_weights(Network([Dense(2), Dense(1)], (3,)), folder / "w.safetensors", **options)


def watched(monitor, **options):
    watching = trainer(callbacks=[xpnn.EarlyStopping(monitor)], **options)
    return watching.fit(X, Y, validation=0.25, **QUIET)


def trained(**options):
    trainer = Trainer(Network([Dense(3)], (3,)), xpnn.mean_squared_error, SGD(0.1), **options)
    return trainer.step(X, X)


LISTS = {"0.dense.weight": [[0.5, 0.5]] * 3, "0.dense.bias": [0.0, 0.0]}
WORDS = {"x": [1.0, 2.0], "word": ["no", "yes"]}
TABLE = {"a": [1, 2, 3, 4], "mixed": [1, "x", 2, 3], "y": [5, 6, 5, 6]}


def attached(folder, **named):
    """A network with an attachment of the user's own, in a file."""

    class Own(Attachment, **named):
        def as_plain(self):
            return 1

        @classmethod
        def from_plain(cls, plain):
            return cls()

    one = network()
    one.attachments["own"] = Own()
    one.save(folder / "n.safetensors")
    Attachment.kinds.pop("yourlib.Own", None)


def of_many_classes(**more):
    return Columns(target="y", **more).fit({"a": np.arange(200_001), "y": np.arange(200_001)})


LINES = {  # part of the message: what is wrong, and what it says to write
    "is open already; write get_backend(": (
        lambda _: get_backend(get_backend("numpy"), deterministic=True),
        lambda _: get_backend("numpy", deterministic=True, tf32=True),
    ),
    "for several write batch": (
        lambda _: Vocabulary("ab").encode(["a", "ab"]),
        lambda _: Vocabulary("ab").batch(["a", "ab"]),
    ),
    "write [text], or encode(text)": (
        lambda _: Vocabulary("ab").batch("ab"),
        lambda _: (Vocabulary("ab").batch(["ab"]), Vocabulary("ab").encode("ab")),
    ),
    "make it with one, or write begin=None": (
        lambda _: Vocabulary("ab").encode("ab", begin=True),
        lambda _: (
            Vocabulary("ab", specials=["begin"]).encode("ab", begin=True),
            Vocabulary("ab").encode("ab", begin=None),
        ),
    ),
    "what is unknown: specials=('unknown',)": (
        lambda _: Vocabulary("ab", specials=()).encode("abc"),
        lambda _: Vocabulary("ab", specials=("unknown",)).encode("abc"),
    ),
    "write class ": (
        lambda folder: attached(folder),
        lambda folder: attached(folder, kind="yourlib.Own"),
    ),
    "learned nothing yet; call columns.fit(table) with the training rows": (
        lambda _: Columns().transform(TABLE),
        lambda _: Columns({"mixed": None}).fit(TABLE).transform(TABLE),
    ),
    "; write .collect()": (
        lambda _: Columns().fit(pytest.importorskip("polars").LazyFrame({"a": [1, 2]})),
        lambda _: Columns().fit(pytest.importorskip("polars").LazyFrame({"a": [1, 2]}).collect()),
    ),
    "such as Columns({'mixed': 'one-hot'}) or --encode mixed=one-hot, and learn anew": (
        lambda _: Columns().fit(TABLE),
        lambda _: Columns({"mixed": "one-hot"}).fit(TABLE),
    ),
    "mend it, or learn classes, by target_as='classes' or --task classes": (
        lambda _: Columns(target="word", target_as="numbers").fit(WORDS),
        lambda _: Columns(target="word", target_as="classes").fit(WORDS),
    ),
    "have no target; make them with Columns(target=": (
        lambda _: Columns({"mixed": None}).fit(TABLE).targets(TABLE),
        lambda _: Columns({"mixed": None}, target="y").fit(TABLE).targets(TABLE),
    ),
    "different values; if they are numbers, write target_as='numbers'": (
        lambda _: of_many_classes(target_as="classes"),
        lambda _: of_many_classes(target_as="numbers"),
    ),
    "write compile=True, or take backend='cupy'": (
        lambda _: trained(compile="fused"),
        lambda _: trained(compile=True),
    ),
    "leave compile=True out, or take another": (
        lambda _: compiled(True),
        lambda _: compiled(None),
    ),
    "move the array, get_backend(": (
        lambda _: on_first().predict(elsewhere()),
        lambda _: on_first().predict(get_backend("array-api-strict:device1").move(elsewhere())),
    ),
    ").move(x), or the network, network.to(": (
        lambda _: on_first().predict(elsewhere()),
        lambda _: on_first().to("array-api-strict:device2").predict(elsewhere()),
    ),
    "NpzShards(..., x=..., y=...)": (
        lambda folder: list(NpzShards(saved_archive(folder))),
        lambda folder: list(NpzShards(saved_archive(folder), x="inputs", y="targets")),
    ),
    "window=None keeps the order": (
        lambda folder: NpzShards(saved_archive(folder), window=0),
        lambda folder: NpzShards(saved_archive(folder), window=None),
    ),
    "call feedforward() on every layer": (lambda _: unfed().feedforward(), lambda _: fed(unfed())),
    "layer.build(input_shape, get_backend('numpy'))": (
        lambda _: Dense(2).params,
        lambda _: Dense(2).build((3,), get_backend("numpy")),
    ),
    "give it a shortcut such as Dense(": (
        lambda _: network(Residual([Dense(4)])),
        lambda _: network(Residual([Dense(4)], shortcut=Dense(4))),
    ),
    "got single numbers; give the network input_shape=(1,)": (
        lambda _: Network([Dense(2)], ()),
        lambda _: Network([Dense(2)], (1,)).predict(np.ones((2, 1))),
    ),
    "long; write LearnedPositions(": (
        lambda _: Network([LearnedPositions(4)], (6, 2)),
        lambda _: Network([LearnedPositions(6)], (6, 2)),
    ),
    "give the network input_shape=(time, 1)": (
        lambda _: Network([GRU(2)], (5,)),
        lambda _: Network([GRU(2)], (5, 1)).predict(np.ones((2, 5, 1))),
    ),
    "write padding='same'": (
        lambda _: Network([Conv1D(2, 9)], (5, 1)),
        lambda _: Network([Conv1D(2, 9, padding="same")], (5, 1)),
    ),
    "with channels=1 where there is a single one": (
        lambda _: Network([Conv1D(2, 3)], (5,)),
        lambda _: Network([xpnn.Reshape((5, 1)), Conv1D(2, 3)], (5,)),
    ),
    "to freeze all of it write network.freeze(), and one": (
        lambda _: setattr(network(), "trainable", False),
        lambda _: (frozen(), frozen("0.*")),
    ),
    "put more layers behind a network by network.with_head([Dense(5)])": (
        lambda _: Network([network(), Dense(5)], (3,)),
        lambda _: network().with_head([Dense(5)], after="0.dense"),
    ),
    "call layer.adapt(x) with the training data": (
        lambda _: network(Standardize()).predict(X),
        lambda _: network(Standardize().adapt(X)).predict(X),
    ),
    "for one feature write x[:, None]": (
        lambda _: Standardize().adapt(X[:, 0]),
        lambda _: Standardize().adapt(X[:, 0][:, None]),
    ),
    "call network.forward(x, training=True) first": (
        lambda _: network().backward(np.ones((8, 2), np.float32)),
        lambda _: (one := network()).backward(one.forward(X, training=True)),
    ),
    "and network.backward(delta) before each updater.step()": (
        lambda _: updated("forward"),
        lambda _: updated("forward", "backward", "step"),
    ),
    "call network.backward(delta) between it and updater.step()": (
        lambda _: updated("forward", "backward", "forward"),
        lambda _: updated("forward", "backward", "forward", "backward"),
    ),
    "on the nodes of this one, as in body(x)": (
        lambda _: called_for_two(again=False),
        lambda _: called_for_two(again=True),
    ),
    "or keep it as it is: network.freeze(": (
        lambda _: with_a_head_that_nobody_reads(),
        lambda _: with_a_head_that_nobody_reads("0.graph.2.dense"),
    ),
    "give zeros for it, as in np.zeros_like(output)": (
        lambda _: updated_half(),
        lambda _: updated_half(np.zeros_like),
    ),
    "what is not to be trained, as in network.freeze(": (
        lambda _: updated_half(),
        lambda _: updated_half(freeze="1.dense"),
    ),
    "and updater.backward(delta) before each updater.step()": (
        lambda _: updated("forward in half"),
        lambda _: updated("forward in half", "backward in half"),
    ),
    "call updater.backward(delta) between it and updater.step()": (
        lambda _: updated("forward in half", "backward in half", "forward in half"),
        lambda _: updated(*["forward in half", "backward in half"] * 2),
    ),
    "updater.backward(delta) right before it": (
        lambda _: updated("in half", "forward", "backward"),
        lambda _: updated("in half", "forward in half", "backward in half"),
    ),
    "call updater.forward(x) first": (
        lambda _: updated("backward in half"),
        lambda _: updated("forward in half", "backward in half"),
    ),
    "load it with Updater(network, ": (
        lambda folder: reloaded(folder, SGD(0.1)),
        lambda folder: reloaded(folder, Adam(0.1)),
    ),
    "save it with updater.save(path)": (
        lambda _: __import__("copy").copy(xpnn.Updater(network(), SGD(0.1))),
        lambda folder: xpnn.Updater(network(), SGD(0.1)).save(folder / "u.safetensors"),
    ),
    "set trainer.opt_state = None": (lambda _: switched(), lambda _: switched("fresh")),
    "go on from it with fit(..., resume=": (
        checkpointed,
        lambda folder: checkpointed(folder, resume=folder / "run"),
    ),
    "for an autoencoder pass y=x": (lambda _: fitting((X, None)), lambda _: fitting((X, X))),
    "save it with trainer.save(path), or make a second": (
        lambda _: __import__("copy").deepcopy(trainer()),
        lambda folder: (trainer().save(folder / "t.safetensors"), trainer().to("numpy")),
    ),
    "callbacks: wanted objects such as [EarlyStopping()]": (
        lambda _: trainer(callbacks=[xpnn.EarlyStopping]),
        lambda _: trainer(callbacks=[xpnn.EarlyStopping()]),
    ),
    "nothing was changed. network.load(values) takes lists": (
        lambda _: setattr(network(), "params", LISTS),
        lambda _: network().load(LISTS),
    ),
    "give it to the trainer, metrics=['accuracy']": (
        lambda _: watched("val_accuracy"),
        lambda _: watched("val_accuracy", metrics=["accuracy"]),
    ),
    "take what fits by xpnn.load_weights(network, path, partial=True)": (
        of_a_file,
        lambda folder: of_a_file(folder, partial=True),
    ),
    "are not given to an optimizer: write Trainer(network, loss, optimizer)": (
        lambda _: Adam(network().params),
        lambda _: Trainer(network(), xpnn.cross_entropy, Adam()),
    ),
    "metrics: wanted a list of objects": (
        lambda _: trainer(metrics=Accuracy()),
        lambda _: trainer(metrics=[Accuracy()]),
    ),
    "it cannot generate; make it with causal=True": (
        lambda _: written(MultiHeadAttention(1)),
        lambda _: written(MultiHeadAttention(1, causal=True)),
    ),
    "write temperature=0 for the likeliest id": (
        lambda _: written(MultiHeadAttention(1, causal=True), Softmax()),
        lambda _: written(MultiHeadAttention(1, causal=True), Softmax(), temperature=0),
    ),
    "; write context={": (
        lambda _: translated(),
        lambda _: translated(context={"source": [1, 2, 3]}),
    ),
    "network.load(network.numpy_arrays()) brings": (
        lambda folder: of_two_dtypes().save(folder / "net.safetensors"),
        lambda folder: brought_together().save(folder / "net.safetensors"),
    ),
    "pass partial=True to leave it as it is": (
        lambda _: load_torch_weights(network(Own()), OURS),
        lambda _: load_torch_weights(network(Own()), OURS, partial=True),
    ),
    "write save_weights(network, path), which takes any": (
        lambda folder: save_torch_weights(network(Own()), folder / "t.safetensors"),
        lambda folder: save_weights(network(Own()), folder / "t.safetensors"),
    ),
    "leave out append=True to replace it": (
        lambda folder: logged(folder, append=True),
        lambda folder: logged(folder),
    ),
    "write predict(x, probabilities=xpnn.cross_entropy)": (
        lambda _: network().predict(X, probabilities=True),
        lambda _: network().predict(X, probabilities=xpnn.cross_entropy),
    ),
    "write Product(Chain(...), ReduceOnPlateau(1.0))": (
        lambda _: xpnn.Chain(0.1, xpnn.ReduceOnPlateau(0.2), at=[9]),
        lambda _: SGD(xpnn.Product(xpnn.Chain(0.1, 0.2, at=[9]), xpnn.ReduceOnPlateau(1.0))),
    ),
    "let those that are frozen train again by network.unfreeze()": (
        lambda _: xpnn.minimize(frozen_whole(), xpnn.cross_entropy, X, Y, steps=2),
        lambda _: xpnn.minimize(frozen_whole(again=True), xpnn.cross_entropy, X, Y, steps=2),
    ),
    "write class Own(Lambda), whose __init__ gives them": (
        lambda folder: Network([Lambda(*SINE)], (3,)).save(folder / "net.safetensors"),
        lambda folder: Network([of_lambda()], (3,)).save(folder / "net.safetensors"),
    ),
    "decorate the class with @xpnn.register": (
        lambda folder: Network([Own()], (3,)).save(folder / "net.safetensors"),
        lambda folder: Network([registered()()], (3,)).save(folder / "net.safetensors"),
    ),
}


@pytest.mark.parametrize("part", LINES)
def test_what_an_error_says_to_write_helps(part, tmp_path):
    wrong, right = LINES[part]
    for folder in ("wrong", "right"):
        (tmp_path / folder).mkdir()
    with pytest.raises((xpnn.XpnnError, TypeError, ValueError)) as refused:
        wrong(tmp_path / "wrong")
    assert part in str(refused.value)
    right(tmp_path / "right")
    KINDS.pop("tests.Known", None)


TRIED_BY = {  # part of the message: the file that tries what it says
    "look into a step by itself, xpnn.explain(": "xray/test_following.py",
    "pass this XRay to fit, as in": "xray/test_following.py",
    "begin anew: fit with warm_start=False": "sklearn/test_estimators.py",
    "or give widths, such as layers=(64,)": "sklearn/test_inputs.py",
    "make it with one, or write =None": "test_advice_lines.py",
    "write dataset.shuffle(buffer_size=": "training/intake/test_loaders.py",
    "a list of layers and an input_shape, or of inputs": "layers/test_graph.py",
    "layer.forward(Z) where it is built": "layers/test_graph.py",
    "write Network(inputs=x, outputs=...) and call": "layers/test_graph.py",
    "which holds ; write takes='integers'": "layers/test_graph.py",
    "begin a new average: call its forget()": "training/callbacks/test_averages.py",
    "measure Accuracy()": "test_outputs.py",
    "leave multilabel=True out": "test_outputs.py",
    "(multilabel=True) if each output is": "test_outputs.py",
    "write threshold=0.5": "test_outputs.py",
    "leave average='binary' out": "test_outputs.py",
    "write Sigmoid() in its place": "test_outputs.py",
    "end the network in Sigmoid()": "test_outputs.py",
    "write load_torch_weights(network, module.state_dict())": "saving/torch/test_weights.py",
    "write like=module.state_dict()": "saving/torch/test_weights.py",
    "say which module goes where in names=": "saving/torch/test_names.py",
    "higher_is_better=True": "training/callbacks/test_callbacks.py",
    "write def ": "test_attributes.py",
    "as DataLoader(dataset, batch_size=32) does": "training/intake/test_sources.py",
    "asked for steps that are compiled, and this one": "backends/test_compiled_step.py",
    "cannot be checked there; pass check=False": "layers/test_lambda.py",
    "jax.config.update('jax_enable_x64', True)": "backends/test_asarray.py",
    "that of the batch has a length with batch=1": "onnx/test_axes.py",
    "divide arrays by it, as in Z / Z.shape[1]": "onnx/test_axes.py",
    "two of the inputs and outputs would be called": "onnx/test_options.py",
    "save it, and export it in half precision": "onnx/test_options.py",
    "metadata is of texts by texts": "onnx/test_options.py",
    "on the first axis, or set synchronized=False": "distributed/test_rows.py",
    "write distributed='auto', or move the network": "distributed/test_engines.py",
    "call super().__init__(rank, size)": "distributed/test_engines.py",
    "outside of trainer.alone()": "distributed/test_places.py",
    "with trainer.alone():": "distributed/test_places.py",
    "distributed='torch' can be compiled": "distributed/test_engines.py",
    "distributed='nccl' can be captured": "distributed/test_nccl.py",
    "take backend='torch' or 'torch:cuda'": "distributed/test_engines.py",
    "backend='cupy' and no number behind it": "distributed/test_nccl.py",
}
ABOUT_CLASSES = [  # that a user has written, in words, or of what this machine lacks
    *("a method arguments()", "super().__init__() as its first line", "return dL/d(input)"),
    *("self.fused['scale']", "let its backward write", "let state() return these only"),
    *("clip the gradients (clip=", "and then set trainer.optimizer", "use bias=False"),
    *("model.save('model.keras')",),  # in Keras, which tests do without; make_files.py does
    *("use backend='numpy'", "use backend='torch' for the CPU", "makes other features fit"),
]


def hints():
    """The texts of errors whose last part holds code: a call, or an argument."""
    for path in Path(xpnn.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            inside = list(ast.walk(node.exc))
            texts = [one.value for one in inside if isinstance(one, ast.Constant)]
            text = "".join(one for one in texts if isinstance(one, str))
            words, _, advice = text.rpartition(";")
            of_array = any(isinstance(one, ast.keyword) and one.arg == "change" for one in inside)
            if words and not of_array and re.search(r"[\w.]\(|\w ?=[^=]", advice):
                yield f"{path.name}:{node.lineno}", text


def test_every_line_is_tried():
    known = [*LINES, *TRIED_BY, *ABOUT_CLASSES]
    left = {place: text for place, text in hints() if not any(one in text for one in known)}
    assert not left, "try what these say to write, here or in a file that TRIED_BY names"
    assert all((Path(__file__).parent / file).exists() for file in TRIED_BY.values())
