"""Model builders, and the one registry of them: what each is made from, and what was published for it.

Reading the registry loads no framework; building a model does.

>>> MODELS["feature_attention"].published.map
0.361
>>> sorted(name for name, entry in MODELS.items() if entry.front_end == "talnet")
['gl_at_talnet', 'talnet']
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple


class Figures(NamedTuple):
    """mAP, mean AUC and d-prime as printed in a paper."""

    map: float
    mauc: float
    d_prime: float


@dataclass(frozen=True)
class Entry:
    """One system.

    Args:
        module: module of `kerastag.models` that builds it.
        builder: the function there, which takes `num_classes` and the model's settings.
        settings: settings that make it this system.
        front_end: name in `kerastag.dsp.FRONT_ENDS` of what turns a waveform into its input; None when it takes
            segment embeddings.
        published: its figures on AudioSet's evaluation split, trained on all of AudioSet.
    """

    module: str
    builder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    front_end: str | None = None
    published: Figures | None = None

    def build(self, **settings: Any) -> Any:
        """Settings of the model -> a new `keras.Model` with outputs `clipwise` and `framewise`."""
        return self._function()(**{**self.settings, **settings})

    def dropout_rates(self) -> dict[str, float]:
        """The builder's arguments that are rates of dropout -> what they are where nothing is said."""
        arguments = signature(self._function()).parameters.values()
        return {each.name: each.default for each in arguments if each.name.endswith("dropout")}

    def _function(self) -> Callable[..., Any]:
        return getattr(import_module(f"kerastag.models.{self.module}"), self.builder)


def _embedding(builder: str, *figures: float, **settings: Any) -> Entry:
    return Entry("embedding_models", builder, settings, published=Figures(*figures))


def _gl_at(backbone: str, front_end: str, *figures: float) -> Entry:
    published = Figures(*figures) if figures else None
    return Entry("two_stream", "gl_at", {"backbone": backbone}, front_end, published)


# Paper 1 is Kong et al., 2019, tables I and IV; the backbones' figures are those of Wang et al., 2021, table 1.
MODELS: Mapping[str, Entry] = {
    "google_baseline": _embedding("instance_space", 0.314, 0.959, 2.452, pooling="average", depth=1),
    "segment": _embedding("instance_space", 0.293, 0.960, 2.483, pooling="average"),
    "instance_max": _embedding("instance_space", 0.292, 0.960, 2.471, pooling="max"),
    "instance_average": _embedding("instance_space", 0.300, 0.964, 2.536, pooling="average"),
    "es_average": _embedding("embedded_space", 0.317, 0.963, 2.529, pooling="average"),
    "es_max": _embedding("embedded_space", 0.284, 0.958, 2.443, pooling="max"),
    "es_min": _embedding("embedded_space", 0.281, 0.956, 2.413, pooling="min"),
    "es_max_min": _embedding("embedded_space", 0.306, 0.962, 2.505, pooling="max_min"),
    "jdc": _embedding("jdc", 0.337, 0.963, 2.526),
    "self_attention": _embedding("self_attention", 0.324, 0.962, 2.506),
    "decision_attention": _embedding("decision_attention", 0.337, 0.968, 2.612),
    "multi_attention": _embedding("multi_attention", 0.357, 0.968, 2.621),
    "feature_average": _embedding("feature_pooling", 0.298, 0.960, 2.475, pooling="average"),
    "feature_max": _embedding("feature_pooling", 0.343, 0.966, 2.589, pooling="max"),
    "feature_attention": _embedding("feature_attention", 0.361, 0.969, 2.641),
    "cnn10": Entry("cnn10", "cnn10", {}, "panns", Figures(0.380, 0.971, 2.678)),
    "resnet38": Entry("resnet38", "resnet38", {}, "panns", Figures(0.434, 0.974, 2.737)),
    "talnet": Entry("talnet", "talnet", {}, "talnet", Figures(0.362, 0.965, 2.554)),
    "at_sca": Entry("at_sca", "at_sca", {}, "panns", Figures(0.390, 0.970, 2.652)),
    "mn": Entry("mn", "mn", {}, "efficientat"),
    "vggish": Entry("vggish", "vggish", {}, "vggish"),
    "gl_at_talnet": _gl_at("talnet", "talnet", 0.401, 0.970, 2.659),
    "gl_at_cnn10": _gl_at("cnn10", "panns", 0.408, 0.974, 2.742),
    "gl_at_resnet38": _gl_at("resnet38", "panns", 0.438, 0.975, 2.774),
    "gl_at_at_sca": _gl_at("at_sca", "panns", 0.413, 0.971, 2.677),
    "gl_at_mn": _gl_at("mn", "efficientat"),
}
