"""Which public thing stands in which part and under which heading of the API pages.

Every name of a module's ``__all__`` is here once; ``tests/docs/test_api_pages.py`` holds that.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """One part of the API: a folder of pages, one for each class and function.

    Attributes:
        title: in the menu.
        module: that its names are imported from.
        groups: headings, and the names under each, with blanks between.
        options: of mkdocstrings, for every page of this part.
        whole: whether all of it stands on one page, as it is short.
    """

    title: str
    module: str
    groups: dict[str, str]
    options: dict[str, object] = field(default_factory=dict)
    whole: bool = False

    def names(self) -> list[str]:
        """All names, in the order of the menu."""
        return [name for group in self.groups.values() for name in group.split()]


PARTS = {
    "network": Part(
        "Networks",
        "xpnn.network",
        {"Networks": "Network load"},
        {"inherited_members": True},
    ),
    "layers": Part(
        "Layers",
        "xpnn.layers",
        {
            "Dense and dropout": "Dense Dropout AlphaDropout SpatialDropout GaussianNoise"
            " GaussianSample Standardize",
            "Activations": "Sigmoid Tanh ReLU LeakyReLU PReLU ELU SELU GELU SiLU Mish HardSwish"
            " Softplus Softmax Identity GLU SwiGLU Maxout",
            "Convolution": "Conv1D Conv2D Conv3D ConvTranspose1D ConvTranspose2D ConvTranspose3D"
            " SeparableConv1D SeparableConv2D",
            "Pooling and resizing": "MaxPool1D MaxPool2D MaxPool3D AveragePool1D AveragePool2D"
            " AveragePool3D GlobalAveragePool GlobalMaxPool AdaptiveAveragePool UpSampling"
            " PixelShuffle ZeroPadding Cropping",
            "Augmentation": "RandomFlip RandomShift RandomCrop Cutout",
            "Normalization": "BatchNorm LayerNorm RMSNorm GroupNorm InstanceNorm WeightNorm",
            "Recurrence": "SimpleRNN LSTM GRU Bidirectional Masked",
            "Attention": "MultiHeadAttention CrossAttention TransformerBlock"
            " TransformerDecoderBlock PaddingMask",
            "Embeddings and positions": "Embedding TiedDense LearnedPositions SinusoidalPositions",
            "Containers": "Sequential Residual Parallel Recompute",
            "Graphs": "Input Node Graph Add Subtract Multiply Average Concatenate Dot",
            "Shapes": "Flatten Reshape Permute Repeat",
            "Small weights": "L1 L2 MaxNorm",
            "Layers of your own": "Layer Activation Container Joint Recurrent Lambda register",
        },
    ),
    "losses": Part(
        "Losses",
        "xpnn.losses",
        {
            "Classes": "cross_entropy binary_cross_entropy focal binary_focal hinge kl_divergence"
            " dice ctc",
            "Numbers": "mean_squared_error quadratic_cost mean_absolute_error huber log_cosh"
            " pinball poisson gaussian cosine_distance",
            "Pairs and triplets": "contrastive triplet",
            "Several outputs, and losses of your own": "ByOutput MEANINGS balanced_weights"
            " check_targets total_weight",
        },
    ),
    "optimizers": Part(
        "Optimizers",
        "xpnn.optimizers",
        {
            "Optimizers": "SGD Adam AdamW NAdam RAdam Adamax RMSprop Adagrad Adadelta Adafactor"
            " LAMB Lion Muon Optimizer every_parameter matrices_only Hyper",
            "Schedules": "Constant Linear Polynomial Exponential Cosine CosineRestarts Cyclic"
            " OneCycle StepDecay Piecewise WarmUp Chain Product ReduceOnPlateau Schedule",
            "Clipping": "ClipByGlobalNorm ClipByValue Clipping",
        },
    ),
    "training": Part(
        "Training",
        "xpnn.training",
        {
            "Training": "Trainer Updater MixedPrecision TrainingState make_train_step"
            " make_eval_step minimize Minimum find_rate RateCurve",
            "Callbacks": "Callback History ProgressBar EarlyStopping BestWeights Checkpoint EMA SWA"
            " GradualUnfreezing StopOnNaN CSVLogger JSONLines TensorBoard MLflow WandB",
        },
        {"inherited_members": ["opt_state", "compiled", "program", "step"]},
    ),
    "metrics": Part(
        "Metrics",
        "xpnn.metrics",
        {
            "Classes": "Accuracy BalancedAccuracy TopK Precision Recall F1 ROCAUC AveragePrecision"
            " LogLoss BrierScore CalibrationError Perplexity IoU",
            "Numbers": "MAE R2 ExplainedVariance",
            "Reports, and metrics of your own": "ConfusionMatrix ClassReport Metric",
        },
    ),
    "data": Part(
        "Data",
        "xpnn.data",
        {
            "Tables": "Columns Standardized Numbers OneHot Embedded Bucketed Dates Target Encoding"
            " EncodedBatches TableFiles",
            "Texts": "Vocabulary Tokenizer TextIds next_ids",
            "Files larger than memory": "NpzShards CsvShards ParquetShards TableShards Shards"
            " Batches Prefetch",
            "Splits": "split",
        },
    ),
    "datasets": Part(
        "Data sets",
        "xpnn.data.datasets",
        {"Data sets": "digits mnist read_idx text"},
    ),
    "saving": Part(
        "Files",
        "xpnn.saving",
        {
            "Weights": "save_weights load_weights LoadedWeights load_torch_weights"
            " save_torch_weights load_keras_weights",
            "Folders and attachments": "save_folder Attachment",
            "The format": "TensorFile Tensor Entry tensor write_tensors",
        },
    ),
    "generation": Part(
        "Generation",
        "xpnn.generation",
        {"Generation": "generate beam_search Beams sample Reader"},
    ),
    "backends": Part(
        "Backends",
        "xpnn.backends",
        {"Backends": "get_backend backend_of Backend Communicator BACKENDS"},
    ),
    "sklearn": Part(
        "Estimators for scikit-learn",
        "xpnn.sklearn",
        {"Estimators": "Classifier Regressor"},
        {"inherited_members": ["set_params", "loss_curve_", "n_iter_"]},
    ),
    "testing": Part(
        "Testing",
        "xpnn.testing",
        {"Testing": "check_gradients GradientReport GradientRow training_curve"},
    ),
    "xray": Part(
        "The x-ray",
        "xpnn.xray",
        {"The x-ray": "explain XRay Explanation StepView LayerView LayerInfo"},
    ),
    "summary": Part("Summaries", "xpnn.summary", {"Summaries": "Summary Row summarize"}),
    "guide": Part(
        "The guide's layers",
        "xpnn.guide",
        {"Layers": "InputLayer HiddenLayer OutputLayer LinkedLayer"},
    ),
    "initializers": Part(
        "Starting weights",
        "xpnn.initializers",
        {
            "Starting weights": "zeros ones constant normal uniform glorot_uniform glorot_normal"
            " he_uniform he_normal lecun_normal orthogonal fans"
        },
        whole=True,
    ),
    "errors": Part(
        "Errors",
        "xpnn.errors",
        {
            "Errors": "XpnnError ShapeError DataError DeviceError FileError BackendUnavailable"
            " CompileError ExportError NotBuiltError AssignmentError OutOfMemory TrainingStopped"
            " GradientError Change CompileWarning EmptyMeanWarning"
        },
        whole=True,
    ),
}
"""Parts by their folder under ``docs/api/``, in the order of the menu."""
