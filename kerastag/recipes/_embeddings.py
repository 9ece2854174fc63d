"""The systems of paper 1: networks that take the embeddings of a clip's segments.

Reference: Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from kerastag._provenance import package_versions
from kerastag.card import Card
from kerastag.data.batches import BalancedSampler, Batches, EmbeddingBatches
from kerastag.models import MODELS
from kerastag.recipes._recipe import Recipe
from kerastag.recipes._synthetic import run_on_synthetic_embeddings
from kerastag.training.config import TrainingConfig, check_value
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder, embedding_card

__all__ = ["EmbeddingConfig", "EmbeddingTask", "embedding_recipe"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(TrainingConfig):
    """Configuration of a network that takes embeddings.

    Args:
        units: Width of the hidden layers, at least 1.
        depth: Number of hidden layers, at least 0.
        dropout: Dropout rate of the hidden layers, in [0, 1).
        normalize_input: Whether the embeddings are batch-normalized.
        single_segments: Whether to train on single segments that inherit the labels of their clip (equation 1).
        min_segments: Smallest number of segments of a random part of each clip to train on, for a network that must
            also tag the first seconds of a sound; 0 for whole clips.
        teachers: Folders of finished runs to learn from: the mean of their predictions of the same clips, which are
            mixed where there is mixup, becomes a part of the targets. A run that is named twice has twice the weight.
        teacher_share: Share of the teachers in the targets, in [0, 1]; the rest are the labels.
        teacher_batches: Number of different mini-batches, at least 1, which are repeated: the teachers process each
            of them once, with all their checkpoints.

    Raises:
        ValueError: A value is out of range.
    """

    units: int = 1024
    depth: int = 3
    dropout: float = 0.5
    normalize_input: bool = True
    single_segments: bool = False
    min_segments: int = 0
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.9
    teacher_batches: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        is_valid = self.min_segments >= 0 and not (self.min_segments and self.single_segments)
        check_value("min_segments", self.min_segments, is_valid, "at least 0, and 0 with `single_segments`")
        check_value("teacher_share", self.teacher_share, 0 <= self.teacher_share <= 1, "in [0, 1]")
        check_value("teacher_batches", self.teacher_batches, self.teacher_batches >= 1, "at least 1")
        takes_clips = not (self.teachers and self.single_segments)
        check_value("teachers", self.teachers, takes_clips, "empty with `single_segments`")
        is_alone = not self.teachers or self.num_processes == 1
        check_value("num_processes", self.num_processes, is_alone, "1 with `teachers`")


class EmbeddingTask:
    """Training of a network that takes embeddings.

    Args:
        model: Name of the model in `kerastag.models.MODELS`.
        *arguments: Configuration fields that the builder of this model takes besides the common ones.
    """

    def __init__(self, model: str, *arguments: str) -> None:
        self.model, self.arguments = model, arguments

    def build_model(self, config: EmbeddingConfig, data: RunData) -> Any:
        names = ("units", "depth", "dropout", "normalize_input", *self.arguments)
        return MODELS[self.model].build(
            num_classes=data.train.num_classes,
            num_features=data.num_features,
            **{name: getattr(config, name) for name in names},
        )

    def batches(self, config: EmbeddingConfig, data: RunData, sampler: BalancedSampler, folder: RunFolder) -> Batches:
        options = config.single_segments, config.mixup, config.min_segments
        batches = EmbeddingBatches(data.train, sampler, data.train_rows, *options)
        if not config.teachers:
            return batches
        from kerastag.recipes._distillation import DistilledBatches, load_teachers, predict_batches

        teachers = load_teachers(config.teachers, data)
        count = min(config.teacher_batches, config.steps)
        predictions = predict_batches(teachers, data, batches, count, folder.teachers_path)
        return DistilledBatches(batches, predictions, config.teacher_share)

    def card(self, config: EmbeddingConfig, data: RunData) -> Card:
        return embedding_card(
            data.labels,
            num_segments=data.train.x_shape[1],
            origin=f"{self.model}, trained by kerastag on {', '.join(sorted(data.class_counts))}",
            versions=package_versions(),
        )

    def extra_metrics(self, config: EmbeddingConfig, data: RunData, model: Any) -> dict[str, Any]:
        """Compute the metrics on the training clips, for figure 7."""
        from kerastag.metrics.classification import compute_metrics
        from kerastag.training.evaluation import predict
        from kerastag.training.outputs import select_training_outputs

        predictions = predict(select_training_outputs(model), data.train, data.train_rows)
        return {"train": compute_metrics(data.train.targets[data.train_rows], predictions)}


def embedding_recipe(
    name: str, description: str, *arguments: str, config: type = EmbeddingConfig, **defaults: Any
) -> Recipe:
    """Declare the recipe of a network that takes embeddings.

    Args:
        name: Name of the recipe and of its model.
        description: Docstring of the module.
        *arguments: Configuration fields that the builder of the model takes besides the common ones.
        config: Configuration dataclass.
        **defaults: Values of configuration fields that make it this system.
    """
    task = EmbeddingTask(name, *arguments)
    run_synthetic = partial(run_on_synthetic_embeddings, baseline=BASELINE)
    return Recipe(name, description, "embeddings", config, run_synthetic, task, defaults=defaults)


BASELINE = Recipe(
    "es_average", "", "embeddings", EmbeddingConfig, run_on_synthetic_embeddings, EmbeddingTask("es_average")
)
"""What every system is compared with on the synthetic dataset."""
