"""Files: whole networks, weights alone, and the weights of PyTorch's and Keras' layers.

``network.save(path)`` and ``xpnn.load(path)`` are for networks, ``xpnn.save_weights`` and
``xpnn.load_weights`` for weights alone. Here is what these are made of.
"""

from xpnn.saving.attachments import Attachment
from xpnn.saving.keras.weights import load_keras_weights
from xpnn.saving.model_card import save_folder
from xpnn.saving.partial import LoadedWeights
from xpnn.saving.tensor_file import Entry, TensorFile
from xpnn.saving.tensors import Tensor, tensor, write_tensors
from xpnn.saving.torch.weights import load_torch_weights, save_torch_weights
from xpnn.saving.weights import load_weights, save_weights

__all__ = [
    "Attachment",
    "Entry",
    "LoadedWeights",
    "Tensor",
    "TensorFile",
    "load_keras_weights",
    "load_torch_weights",
    "load_weights",
    "save_folder",
    "save_torch_weights",
    "save_weights",
    "tensor",
    "write_tensors",
]
