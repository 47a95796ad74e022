"""Training: one pure step, the loop around it, and what watches the loop."""

from xpnn.training.callbacks.averages import EMA, SWA
from xpnn.training.callbacks.csv_log import CSVLogger
from xpnn.training.callbacks.diagnosis import StopOnNaN
from xpnn.training.callbacks.history import History
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.callbacks.json_lines import JSONLines
from xpnn.training.callbacks.mlflow import MLflow
from xpnn.training.callbacks.progress import ProgressBar
from xpnn.training.callbacks.shipped import BestWeights, EarlyStopping
from xpnn.training.callbacks.tensorboard import TensorBoard
from xpnn.training.callbacks.unfreezing import GradualUnfreezing
from xpnn.training.callbacks.wandb import WandB
from xpnn.training.checkpointing.checkpoint import Checkpoint
from xpnn.training.minimizing import Minimum, minimize
from xpnn.training.rate_finder import RateCurve, find_rate
from xpnn.training.state import TrainingState
from xpnn.training.stepping.precision import MixedPrecision
from xpnn.training.stepping.step import make_eval_step, make_train_step
from xpnn.training.trainer import Trainer
from xpnn.training.updater import Updater

__all__ = [
    "EMA",
    "SWA",
    "BestWeights",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "GradualUnfreezing",
    "History",
    "JSONLines",
    "MLflow",
    "Minimum",
    "MixedPrecision",
    "ProgressBar",
    "RateCurve",
    "StopOnNaN",
    "TensorBoard",
    "Trainer",
    "TrainingState",
    "Updater",
    "WandB",
    "find_rate",
    "make_eval_step",
    "make_train_step",
    "minimize",
]
