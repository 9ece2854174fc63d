"""What the trainer needs to know about a kind of system."""

from collections.abc import Mapping
from typing import Any, Protocol

from kerastag.card import Card
from kerastag.data.batches import BalancedSampler, Batches
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder

__all__ = ["Task"]


class Task(Protocol):
    """A kind of system: what it is built from, and what it is trained on.

    Every method takes the configuration of the run, a `TrainingConfig` with the fields of the system, and its clips.
    """

    def build_model(self, config: Any, data: RunData) -> Any:
        """Build a new Keras model with a dict of outputs that has `clipwise`, `(batch, classes)`."""
        ...

    def batches(self, config: Any, data: RunData, sampler: BalancedSampler, folder: RunFolder) -> Batches:
        """Return the training batches of the clips that the sampler draws."""
        ...

    def card(self, config: Any, data: RunData) -> Card:
        """Return the card of the trained model."""
        ...

    def extra_metrics(self, config: Any, data: RunData, model: Any) -> Mapping[str, Any]:
        """Compute what this kind of system is evaluated on besides its clip metrics: `Metrics` or JSON, by name."""
        ...
