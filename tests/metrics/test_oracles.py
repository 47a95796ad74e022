"""Metrics against those of scikit-learn, where it is installed."""

import numpy as np
import pytest

from xpnn.metrics import (
    F1,
    MAE,
    R2,
    ROCAUC,
    Accuracy,
    AveragePrecision,
    BalancedAccuracy,
    BrierScore,
    ExplainedVariance,
    IoU,
    LogLoss,
    Precision,
    Recall,
)

pytestmark = pytest.mark.host_only

RNG = np.random.default_rng(5)
YES = RNG.integers(0, 2, 60)
SCORES = np.round(RNG.normal(size=60) + YES, 1)  # with ties
SHARES = 1 / (1 + np.exp(-SCORES))
CLASSES = RNG.integers(0, 4, 60)
LOGITS = RNG.normal(size=(60, 4)) + np.eye(4)[CLASSES]
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
TAGS = RNG.integers(0, 2, (60, 4))
VALUES = RNG.normal(size=(60, 2))
GUESSES = VALUES + 0.4 * RNG.normal(size=(60, 2)) + 0.3
CHOSEN, SAID = P.argmax(axis=1), (SCORES > 0.5).astype(int)

ORACLES = {  # metric, predictions, targets, a function of scikit-learn's, what it takes, options
    "accuracy": (Accuracy(), P, CLASSES, "accuracy_score", CHOSEN, {}),
    "precision": (Precision(), P, CLASSES, "precision_score", CHOSEN, {"average": "macro"}),
    "recall": (Recall(), P, CLASSES, "recall_score", CHOSEN, {"average": "macro"}),
    "f1": (F1(threshold=0.5), SCORES, YES, "f1_score", SAID, {}),
    "iou": (IoU(), P, CLASSES, "jaccard_score", CHOSEN, {"average": "macro"}),
    "balanced": (BalancedAccuracy(), P, CLASSES, "balanced_accuracy_score", CHOSEN, {}),
    "balanced-yes": (
        BalancedAccuracy(threshold=0.5),
        *(SCORES, YES, "balanced_accuracy_score", SAID, {}),
    ),
    "log-loss": (LogLoss(), P, CLASSES, "log_loss", P, {}),
    "log-loss-yes": (LogLoss(), SHARES, YES, "log_loss", SHARES, {}),
    "brier": (BrierScore(), P, CLASSES, "brier_score_loss", P, {"scale_by_half": False}),
    "brier-yes": (BrierScore(), SHARES, YES, "brier_score_loss", SHARES, {}),
    "roc": (ROCAUC(), SCORES, YES, "roc_auc_score", SCORES, {}),
    "roc-classes": (ROCAUC(), P, CLASSES, "roc_auc_score", P, {"multi_class": "ovr"}),
    "roc-tags": (ROCAUC(), LOGITS, TAGS, "roc_auc_score", LOGITS, {}),
    "precision-area": (AveragePrecision(), SCORES, YES, "average_precision_score", SCORES, {}),
    "precision-area-classes": (AveragePrecision(), P, CLASSES, "average_precision_score", P, {}),
    "mae": (MAE(), GUESSES, VALUES, "mean_absolute_error", GUESSES, {}),
    "r2": (R2(), GUESSES, VALUES, "r2_score", GUESSES, {}),
    "explained": (ExplainedVariance(), GUESSES, VALUES, "explained_variance_score", GUESSES, {}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_it_is_that_of_scikit_learn(name, weighted):
    theirs = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    metric, predictions, targets, function, taken, options = ORACLES[name]
    weight = RNG.uniform(size=60) if weighted else None
    found = metric(predictions, targets, sample_weight=weight)
    expected = getattr(theirs, function)(targets, taken, sample_weight=weight, **options)
    assert found == pytest.approx(expected, rel=1e-9)
