"""What paper 1 publishes: the figures of its tables I, II and IV to VII, row by row, and which settings make a row.

Reference: Kong et al., 2019, "Weakly Labelled AudioSet Tagging with Attention Neural Networks". All rows but the
first of table II were trained on all of AudioSet (2 million clips).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerastag.models import MODELS, Figures

__all__ = ["SIZE", "TABLES", "TABLE_III", "Figures", "Row", "Table", "published"]


@dataclass(frozen=True)
class Row:
    """One row: its name, the settings that a run must have to stand in it, and the published figures.

    A value of `settings` that is a tuple allows any of its members; a setting that a run lacks is no obstacle,
    except `system` and `data`.
    """

    name: str
    settings: Mapping[str, Any]
    figures: Figures | None = None

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run of these settings belongs in this row."""
        for key, wanted in self.settings.items():
            if key not in settings:
                if key in ("system", "data"):
                    return False
            elif not _is(settings[key], wanted):
                return False
        return True

    def besides(self, settings: Mapping[str, Any]) -> list[str]:
        """Which settings of a run keep it out of this row, although its system and data belong here."""
        return [key for key, wanted in self.settings.items() if key in settings and not _is(settings[key], wanted)]


def _is(value: Any, wanted: Any) -> bool:
    return value in (wanted if isinstance(wanted, tuple) else (wanted,))


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    `any_size`: a row that no run of the published size belongs in takes those of other sizes (`units`, `depth`,
    `phi`), as small runs on few classes are. In a table that compares sizes it would make no sense.
    """

    number: str
    title: str
    first_column: str
    rows: tuple[Row, ...]
    any_size: bool = False


SIZE = ("units", "depth", "phi")
_SIZE = {"units": 1024, "depth": 3}
_ATTENTION = {"system": "feature_attention", **_SIZE, "phi": "sigmoid"}
_PHI = {
    "ReLU": (("relu",), Figures(0.308, 0.963, 2.520)),
    "exp": (("exp", "exponential"), Figures(0.358, 0.969, 2.631)),
    "sigmoid": (("sigmoid",), Figures(0.361, 0.969, 2.641)),
    "softmax": (("softmax",), Figures(0.360, 0.969, 2.636)),
    "network in network": (("nin", "network_in_network"), Figures(0.359, 0.969, 2.637)),
}
_DEPTH = {
    0: Figures(0.328, 0.963, 2.522),
    1: Figures(0.356, 0.967, 2.605),
    2: Figures(0.358, 0.968, 2.620),
    3: Figures(0.361, 0.969, 2.641),
    4: Figures(0.356, 0.969, 2.637),
    6: Figures(0.348, 0.968, 2.619),
    8: Figures(0.339, 0.967, 2.595),
    10: Figures(0.331, 0.966, 2.579),
}
_UNITS = {
    256: Figures(0.305, 0.962, 2.512),
    512: Figures(0.339, 0.967, 2.599),
    1024: Figures(0.361, 0.969, 2.641),
    2048: Figures(0.369, 0.969, 2.640),  # the paper's text says 2.641
    4096: Figures(0.369, 0.968, 2.619),
}


def _system(name: str, system: str, *figures: float, **settings: Any) -> Row:
    """A row of the system's published size; without figures of its own, those of the registry."""
    found = Figures(*figures) if figures else MODELS[system].published if system in MODELS else None
    return Row(name, {"system": system, **_SIZE, **settings}, found)


TABLES = (
    Table(
        "I",
        "Segment based, instance-space, bag-space and embedded-space methods",
        "system",
        (
            _system("Random guess", "random_guess", 0.005, 0.500, 0.000),
            _system("Google's baseline", "google_baseline", depth=1),
            _system("Segment based", "segment"),
            _system("(IS) standard MIL assumption", "instance_max"),
            _system("(IS) collective assumption", "instance_average"),
            _system("(BS) Hausdorff, nearest neighbors", "bag_neighbors", method="neighbors"),
            _system("(BS) Hausdorff, support vector machine", "bag_neighbors", method="svm"),
            _system("(ES) average", "es_average"),
            _system("(ES) max", "es_max"),
            _system("(ES) min", "es_min"),
            _system("(ES) max-min", "es_max_min"),
        ),
        any_size=True,
    ),
    Table(
        "II",
        "ES average by data and balancing",
        "data",
        (
            _system("Balanced data", "es_average", 0.274, 0.949, 2.316, data="balanced"),
            _system("Full data, no balancing", "es_average", 0.268, 0.950, 2.331, data="full", balanced_batches=False),
            _system("Full data, balancing", "es_average", 0.317, 0.963, 2.529, data="full", balanced_batches=True),
        ),
        any_size=True,
    ),
    Table(
        "IV",
        "Decision-level and feature-level attention",
        "system",
        (
            _system("(ES) average", "es_average"),
            _system("JDC", "jdc"),
            _system("Self attention", "self_attention"),
            _system("Decision-level single attention", "decision_attention"),
            _system("Decision-level multi attention", "multi_attention"),
            _system("Feature-level average pooling", "feature_average"),
            _system("Feature-level max pooling", "feature_max"),
            Row("Feature-level attention", _ATTENTION, MODELS["feature_attention"].published),
        ),
        any_size=True,
    ),
    Table(
        "V",
        "Feature-level attention by the non-negative function phi",
        "phi",
        tuple(Row(name, {**_ATTENTION, "phi": values}, figures) for name, (values, figures) in _PHI.items()),
    ),
    Table(
        "VI",
        "Feature-level attention by depth",
        "hidden layers",
        tuple(Row(str(depth), {**_ATTENTION, "depth": depth}, figures) for depth, figures in _DEPTH.items()),
    ),
    Table(
        "VII",
        "Feature-level attention by width",
        "hidden units",
        tuple(Row(str(units), {**_ATTENTION, "units": units}, figures) for units, figures in _UNITS.items()),
    ),
)

# Pearson correlation with class-wise AP, and its p-value.
TABLE_III = {"Training examples": (0.169, 9.35e-5), "Label quality": (0.230, 7e-7)}


def published(system: str, **settings: Any) -> Figures | None:
    """Turns a system and its settings into the paper's figures for it on all of AudioSet; None where it has none.

    >>> published("feature_attention", units=2048)
    Figures(map=0.369, mauc=0.969, d_prime=2.64)
    >>> published("feature_attention", units=2048, depth=1) is None
    True
    """
    complete = {**_ATTENTION, "method": "neighbors", **settings, "system": system}
    rows = (row for table in TABLES if table.number != "II" for row in table.rows)
    return next((row.figures for row in rows if row.holds(complete)), None)
