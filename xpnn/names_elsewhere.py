"""What arguments and methods are called in Keras and in PyTorch, for those who know these."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

KERAS, TORCH = "Keras", "PyTorch"

ELSEWHERE: dict[str, tuple[str, tuple[str, ...]]] = {
    # of fit, evaluate and predict
    "validation_split": (KERAS, ("validation=0.2",)),
    "validation_data": (KERAS, ("validation=(x, y)",)),
    "verbose": (KERAS, ("progress=False",)),
    "nb_epoch": (KERAS, ("epochs=10",)),
    "num_epochs": (TORCH, ("epochs=10",)),
    "batch": (TORCH, ("batch_size=32",)),
    # of optimizers
    "learning_rate": (KERAS, ("rate=1e-3",)),
    "lr": (TORCH, ("rate=1e-3",)),
    "beta_1": (KERAS, ("beta1=0.9",)),
    "beta_2": (KERAS, ("beta2=0.999",)),
    "betas": (TORCH, ("beta1=0.9, beta2=0.999",)),
    "eps": (TORCH, ("epsilon=1e-8",)),
    "alpha": (TORCH, ("rho=0.99",)),
    "global_clipnorm": (KERAS, ("clip=ClipByGlobalNorm(1.0)",)),
    "clipvalue": (KERAS, ("clip=ClipByValue(0.5)",)),
    # of Trainer and Network
    "model": (TORCH, ("network=network",)),
    "criterion": (TORCH, ('loss="cross_entropy"',)),
    "device": (TORCH, ('backend="numpy"',)),
    # of layers
    "out_features": (TORCH, ("units=64",)),
    "hidden_size": (TORCH, ("units=64",)),
    "units": (KERAS, ("filters=16",)),
    "out_channels": (TORCH, ("filters=16",)),
    "kernel": (KERAS, ("kernel_size=3",)),
    "strides": (KERAS, ("stride=2",)),
    "dilation_rate": (KERAS, ("dilation=2",)),
    "depth_multiplier": (KERAS, ("multiplier=2",)),
    "bias": (TORCH, ("use_bias=False",)),
    "kernel_initializer": (KERAS, ("weight_init=he_normal",)),
    "embeddings_initializer": (KERAS, ("weight_init=he_normal",)),
    "bias_initializer": (KERAS, ("bias_init=zeros",)),
    "p": (TORCH, ("rate=0.5",)),
    "num_embeddings": (TORCH, ("vocabulary=1000",)),
    "input_dim": (KERAS, ("vocabulary=1000",)),
    "embedding_dim": (TORCH, ("features=16",)),
    "output_dim": (KERAS, ("features=16",)),
    "num_heads": (KERAS, ("heads=4",)),
    "num_groups": (TORCH, ("groups=4",)),
    "scale_factor": (TORCH, ("factor=2",)),
    "go_backwards": (KERAS, ("reverse=True",)),
    "min_delta": (KERAS, ("min_gain=0.01",)),
}
"""A name: whose it is, and what to write here; the first that the constructor or method takes."""

WITHOUT: dict[str, tuple[str, str]] = {
    "in_features": (TORCH, "leave it out, as layers see the shape of their inputs"),
    "in_channels": (TORCH, "leave it out, as layers see the shape of their inputs"),
    "input_size": (TORCH, "leave it out, as layers see the shape of their inputs"),
    "num_features": (TORCH, "leave it out, as layers see the shape of their inputs"),
    "input_shape": (KERAS, "give it to the network: Network([...], input_shape=(64,))"),
    "batch_first": (TORCH, "leave it out, as arrays are (batch, time, features)"),
    "data_format": (KERAS, "leave it out, as arrays are channels last"),
    "inplace": (TORCH, "leave it out, as arrays are never overwritten"),
    "class_weight": (KERAS, "give it to the loss: partial(cross_entropy, class_weight=[1.0, 2.0])"),
    "kernel_regularizer": (KERAS, "write Dense(64).regularize(L2(1e-4))"),
    "initial_epoch": (KERAS, "call fit again, which goes on where it ended"),
    "verbose": (KERAS, "leave it out, as only fit shows how far it is"),
}
"""A name of no argument here, or of none of this call: whose it is, and what to do."""


VALUES = {
    "acc": "accuracy",
    "auc": "roc_auc",
    "binary_crossentropy": "binary_cross_entropy",
    "categorical_crossentropy": "cross_entropy",
    "cosine_similarity": "cosine_distance",
    "kld": "kl_divergence",
    "nll": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
}
"""What losses and metrics that are given by name are called here."""


def in_our_words(name: str, known: Collection[str]) -> str:
    """What to write for a name of another library, where these are known; empty if unheard of.

    >>> in_our_words("lr", ["rate", "momentum"])
    "; it is PyTorch's name, here write rate=1e-3"
    """
    library, here = ELSEWHERE.get(name, ("", ()))
    for line in here:
        if line.partition("=")[0] in known:
            return f"; it is {library}'s name, here write {line}"
    if name in WITHOUT:
        library, advice = WITHOUT[name]
        return f"; it is {library}'s name, {advice}"
    return ""


ATTRIBUTES: dict[str, dict[str, tuple[str, str]]] = {
    "Network": {
        "fit": (KERAS, "write Trainer(network, 'cross_entropy', 'adam').fit(x, y)"),
        "evaluate": (KERAS, "write Trainer(network, 'cross_entropy', 'adam').evaluate(x, y)"),
        "compile": (KERAS, "give loss and optimizer to Trainer(network, 'cross_entropy', 'adam')"),
        "add": (KERAS, "give all layers at once to Network([...], input_shape=...)"),
        "weights": (KERAS, "write network.params"),
        "get_weights": (KERAS, "write network.numpy_arrays()"),
        "set_weights": (KERAS, "write network.load(arrays)"),
        "train": (TORCH, "leave it out, as network.forward(x, training=True) says so"),
        "eval": (TORCH, "leave it out, as network.predict(x) does not train"),
        "zero_grad": (TORCH, "leave it out, as each network.backward replaces all gradients"),
        "parameters": (TORCH, "write network.params"),
        "named_parameters": (TORCH, "write network.params"),
        "state_dict": (TORCH, "write network.numpy_arrays()"),
        "load_state_dict": (TORCH, "write network.load(arrays)"),
    },
    "Trainer": {
        "train": (TORCH, "write trainer.fit(x, y)"),
    },
    "History": {
        "history": (KERAS, "write history['loss']"),
    },
}
"""By the name of a class: what it is asked for, whose name that is, and what to do."""


class AnswersOtherNames:
    """Base of classes that say what to write for an attribute of Keras or PyTorch.

    >>> from xpnn import Dense, Network
    >>> Network([Dense(2)], input_shape=(3,)).fit
    Traceback (most recent call last):
    AttributeError: Network has no attribute 'fit', which is Keras's name: write Trainer(...
    """

    if not TYPE_CHECKING:  # to which every attribute would be known

        def __getattr__(self, name: str) -> Any:
            for kind in type(self).__mro__:
                if name in ATTRIBUTES.get(kind.__name__, {}):
                    library, advice = ATTRIBUTES[kind.__name__][name]
                    raise AttributeError(
                        f"{kind.__name__} has no attribute {name!r}, which is {library}'s name: "
                        f"{advice}",
                        name=name,
                        obj=self,
                    )
            return object.__getattribute__(self, name)
