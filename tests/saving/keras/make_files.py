"""Writes the models of Keras that the tests beside it read, with what Keras predicts by them.

``KERAS_BACKEND=jax python -m tests.saving.keras.make_files``, where Keras 3 is installed. They are
small, of random weights, and packed: Keras stores its archives as they are.
"""

import zipfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "files"


def models(keras):
    layers = keras.layers
    yield (
        "images",
        keras.Sequential(
            [
                keras.Input((8, 6, 2)),
                layers.Conv2D(4, 3, name="first"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.SeparableConv2D(3, 2, activation="relu"),
                layers.Conv2DTranspose(2, 3, strides=2),
                layers.DepthwiseConv2D(2, depth_multiplier=2),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(5),
                layers.PReLU(),
                layers.Dropout(0.5),
                layers.Dense(2, use_bias=False),
            ]
        ),
    )
    yield (
        "sequences",
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Embedding(10, 4),
                layers.LSTM(3, return_sequences=True),
                layers.Bidirectional(layers.GRU(3, return_sequences=True)),
                layers.SimpleRNN(4, return_sequences=True),
                layers.LayerNormalization(),
                layers.GroupNormalization(2),
                layers.TimeDistributed(layers.Dense(4)),
                layers.Dense(4),
                layers.RMSNormalization(),
                layers.GRU(2),
            ]
        ),
    )
    x = keras.Input((6, 4))
    seen = layers.MultiHeadAttention(2, 2)(x, x)
    seen = layers.GroupQueryAttention(2, 2, 1)(seen, seen)
    added = layers.Add()([x, seen])
    inner = keras.Sequential([layers.Dense(4), layers.Dense(4, name="x")], name="inner")
    yield "attention", keras.Model(x, layers.Dense(2, name="a")(layers.Dense(3)(inner(added))))


def packed(path):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def main():
    import keras

    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    FOLDER.mkdir(exist_ok=True)
    answers = {}
    for name, model in models(keras):
        for variable in model.weights:
            low = 0.3 if "variance" in variable.path else -0.7
            if "seed" not in variable.path:
                variable.assign(rng.uniform(low, 0.7, variable.shape).astype("float32"))
        shape = (3, *model.input_shape[1:])
        x = rng.integers(0, 10, shape) if name == "sequences" else rng.uniform(-1, 1, shape)
        answers[f"{name}_x"] = x = x.astype("int32" if name == "sequences" else "float32")
        answers[f"{name}_y"] = np.asarray(model(x, training=False))
        model.save(FOLDER / f"{name}.keras")
        packed(FOLDER / f"{name}.keras")
    np.savez_compressed(FOLDER / "answers.npz", **answers)


if __name__ == "__main__":
    main()
