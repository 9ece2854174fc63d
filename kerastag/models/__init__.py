"""Builders of models, and `MODELS`, the registry of the published systems by name.

Importing the package and reading the registry load no framework; building a model does.

>>> MODELS["es_min"].arguments
{'pooling': 'min'}
>>> sorted(name for name, entry in MODELS.items() if entry.front_end == "talnet")
['gl_at_talnet', 'talnet']
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from typing import Any

from kerastag._lazy import attach

_MODULES = {
    "backbones.at_sca": ("at_sca",),
    "backbones.backbone": ("Backbone",),
    "backbones.cnn10": ("cnn10",),
    "backbones.mn": ("mn",),
    "backbones.resnet38": ("resnet38",),
    "backbones.talnet": ("talnet",),
    "backbones.vggish": ("vggish",),
    "embedding_models": (
        "decision_attention",
        "embedded_space",
        "feature_attention",
        "feature_pooling",
        "instance_space",
        "jdc",
        "multi_attention",
        "self_attention",
    ),
    "loading": ("load_model",),
    "two_stream": ("get_backbone", "gl_at"),
    "weights": ("compute_fingerprint", "copy_weights"),
}

__getattr__, __dir__, __all__ = attach(__name__, _MODULES, ["MODELS", "ModelEntry"])


@dataclass(frozen=True)
class ModelEntry:
    """One published system.

    Args:
        module: Name of the module, relative to `kerastag.models`, that defines the builder.
        builder: Name of the builder, a function that returns a `keras.Model`.
        arguments: Arguments of the builder that make this system.
        front_end: Name in `kerastag.dsp.FRONT_ENDS` of the front end before the model; None if it takes embeddings.
    """

    module: str
    builder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    front_end: str | None = None

    def build(self, **arguments: Any) -> Any:
        """Build a new model with random weights.

        Args:
            **arguments: Arguments of the builder, such as `num_classes`; they take precedence over the entry's own.

        Returns:
            `keras.Model` with a dict of outputs that has `clipwise` and `framewise`.
        """
        return self._import_builder()(**{**self.arguments, **arguments})

    def dropout_rates(self) -> dict[str, float]:
        """Return the default dropout rates of the builder by the name of the argument.

        >>> MODELS["cnn10"].dropout_rates()
        {'dropout': 0.5, 'block_dropout': 0.2}
        """
        defaults = {name: each.default for name, each in signature(self._import_builder()).parameters.items()}
        return {name: rate for name, rate in defaults.items() if name.endswith("dropout") and rate is not None}

    def _import_builder(self) -> Callable[..., Any]:
        return getattr(import_module(f"{__name__}.{self.module}"), self.builder)


def _embedding_model(builder: str, **arguments: Any) -> ModelEntry:
    return ModelEntry("embedding_models", builder, arguments)


def _backbone(name: str, front_end: str) -> ModelEntry:
    return ModelEntry(f"backbones.{name}", name, {}, front_end)


def _gl_at(backbone: str, front_end: str) -> ModelEntry:
    return ModelEntry("two_stream", "gl_at", {"backbone": backbone}, front_end)


MODELS: Mapping[str, ModelEntry] = {
    # Kong et al., 2019, tables I and IV.
    "google_baseline": _embedding_model("instance_space", pooling="average", depth=1),
    "segment": _embedding_model("instance_space", pooling="average"),
    "instance_max": _embedding_model("instance_space", pooling="max"),
    "instance_average": _embedding_model("instance_space", pooling="average"),
    "es_average": _embedding_model("embedded_space", pooling="average"),
    "es_max": _embedding_model("embedded_space", pooling="max"),
    "es_min": _embedding_model("embedded_space", pooling="min"),
    "es_max_min": _embedding_model("embedded_space", pooling="max_min"),
    "jdc": _embedding_model("jdc"),
    "self_attention": _embedding_model("self_attention"),
    "decision_attention": _embedding_model("decision_attention"),
    "multi_attention": _embedding_model("multi_attention"),
    "feature_average": _embedding_model("feature_pooling", pooling="average"),
    "feature_max": _embedding_model("feature_pooling", pooling="max"),
    "feature_attention": _embedding_model("feature_attention"),
    # Wang et al., 2021, table 1: the backbones alone, then both streams of each. MN and VGGish are not in the paper.
    "cnn10": _backbone("cnn10", "panns"),
    "resnet38": _backbone("resnet38", "panns"),
    "talnet": _backbone("talnet", "talnet"),
    "at_sca": _backbone("at_sca", "panns"),
    "mn": _backbone("mn", "efficientat"),
    "vggish": _backbone("vggish", "vggish"),
    "gl_at_talnet": _gl_at("talnet", "talnet"),
    "gl_at_cnn10": _gl_at("cnn10", "panns"),
    "gl_at_resnet38": _gl_at("resnet38", "panns"),
    "gl_at_at_sca": _gl_at("at_sca", "panns"),
    "gl_at_mn": _gl_at("mn", "efficientat"),
}
