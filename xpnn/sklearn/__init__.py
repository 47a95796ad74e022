"""Estimators for scikit-learn: ``Classifier`` and ``Regressor``, networks on any backend.

>>> from sklearn.datasets import make_moons
>>> X, y = make_moons(300, noise=0.1, random_state=0)
>>> model = Classifier((16, 16), epochs=100, batch_size=32, random_state=0).fit(X, y)
>>> model.score(X, y) > 0.95
True
"""

try:
    import sklearn.callback  # noqa: F401  # which says that it is new enough
except ImportError as error:
    raise ModuleNotFoundError(
        "xpnn.sklearn needs scikit-learn 1.9 or newer; type: pip install 'xpnn[sklearn]'"
    ) from error

from xpnn.sklearn.classifier import Classifier
from xpnn.sklearn.regressor import Regressor

__all__ = ["Classifier", "Regressor"]
