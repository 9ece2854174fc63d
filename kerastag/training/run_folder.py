"""The run folder: the only code that knows what a run leaves on disk.

| file | holds |
| --- | --- |
| `config.json` | the format, the system and its resolved configuration |
| `versions.json` | versions of the packages, and the processor |
| `metrics.json` | metrics by class and overall; written last, so that a run is finished when it exists |
| `classes.csv`, `table.md` | the same metrics for people |
| `log.csv`, `tensorboard/` | the evaluations during training |
| `checkpoints/step_NNNNNN.weights.h5` | weights of the checkpoints that are averaged |
| `state.npz` | everything that resuming needs |
| `teachers.npy` | what the teachers of an unfinished run predict for its mini-batches |
| `model.keras` | the trained model with its card |
| `embedder.keras`, `head.keras` | the two parts of a tagger of `kerastag custom` that a device can run |
| `embedder.tflite`, `head.tflite`; `model.tflite` | the same parts, or a whole tagger of output frames, exported |
| `review.sqlite` | answers of `kerastag review` |
| `confusion.csv` | what the clips of each class were predicted as, of `kerastag custom` |
| `report.html`, `predictions.csv` | the results of `kerastag custom` as a page, and its held-out predictions |
| `report.npz` | what the page is made of beside `metrics.json` |
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from kerastag._config_parser import make_config_parser, parse_config
from kerastag._keras import save_model
from kerastag._provenance import package_versions
from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.files import (
    format_csv,
    is_temporary,
    read_json,
    remove_stale_files,
    write_atomically,
    write_json,
    write_text,
)
from kerastag.labels import LabelSet
from kerastag.locks import hold_lock
from kerastag.training.config import RunConfig
from kerastag.training.run_metrics import read_metrics

__all__ = ["BASELINE", "FORMAT", "RunFolder", "embedding_card"]

FORMAT = 1
BASELINE = "baseline"
"""Name of the folder, inside that of a run on synthetic data, of the run that it is compared with."""
EMBEDDING_SECONDS = 1.0
"""Seconds from one of AudioSet's released embeddings to the next."""
NOT_IDENTITY = (
    *("config", "data_dir", "recordings_dir", "run_dir", "in_memory", "save_every", "evaluate_every", "jobs"),
    "compare_with",
    *("coordinator", "num_processes", "process_id"),
)
"""Configuration fields that do not change the result of a run: where, how often and in how many processes."""

# Runs without a format were written before version 0.1: `settings.json`, with these names.
_OLD_SYSTEMS = {"bag_neighbours": "bag_neighbors"}
_OLD_FIELDS = {
    "normalise_input": "normalize_input",
    "num_clips": "num_sub_clips",
    "clip_seconds": "sub_clip_seconds",
    "neighbours": "neighbors",
}
_OLD_VALUES = {("method", "neighbours"): "neighbors", ("background", "made_up"): "synthetic"}


class RunFolder:
    """The folder of one run.

    Use `RunFolder.create` for a run that starts or is resumed, and `RunFolder.open` to read one.

    Attributes:
        path: Path of the folder.
        system: Name of the recipe.
        config: Resolved configuration, as plain JSON values by field name.
        is_writable: Whether this process writes the folder. Of several that train together only one does, and the
            methods that save do nothing in the others.
    """

    def __init__(self, path: Path, system: str, config: dict[str, Any], is_writable: bool = True) -> None:
        self.path, self.system, self.config, self.is_writable = path, system, config, is_writable

    def read_config(self, config_class: type, defaults: Mapping[str, Any] | None = None) -> Any:
        """Return the configuration as an instance of its dataclass; fields that it does not have are ignored.

        Args:
            config_class: Configuration dataclass.
            defaults: Values of fields that the run does not have, where they differ from those of the dataclass.

        Raises:
            ValueError: A value has another type than its field, or is out of range.
        """
        file = _find_config(self.path)
        names = {field.name for field in fields(config_class)} & self.config.keys()
        hints = get_type_hints(config_class)
        for name in names:
            if self.config[name] is None and type(None) not in get_args(hints[name]):
                raise ValueError(f"{file}: `{name}` must have a value; received: null")
        parser = make_config_parser("kerastag", "", config_class, "")
        parser.set_defaults(dict(defaults or {}))
        values = parse_config(parser, [], config_class, [(file, {name: self.config[name] for name in names})])
        try:
            return config_class(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def create(cls, path: str | Path, system: str, config: Any, is_writable: bool = True) -> "RunFolder":
        """Create the folder of a run, or open the folder of the same run to resume it.

        Args:
            path: Path of the folder: missing, empty, or the folder of a run with the same configuration.
            system: Name of the recipe.
            config: Configuration dataclass.
            is_writable: Whether to create the folder, or to leave it to another process.

        Raises:
            ValueError: The folder holds another run, whose first differing field is named, or other files.
        """
        path = Path(path)
        values = _plain_values(config)
        if not is_writable:
            return cls(path, system, values, is_writable)
        remove_stale_files(path)
        if _find_config(path).exists():
            _check_same_run(cls.open(path), system, config)
        elif path.is_dir() and not all(is_temporary(entry) for entry in path.iterdir()):
            raise ValueError(f"{path}: `run_dir` must be a run folder or an empty folder; it holds other files")
        write_json(path / "config.json", {"format": FORMAT, "system": system, **values})
        write_json(path / "versions.json", package_versions())
        return cls(path, system, values)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open the folder of a run, finished or not.

        Raises:
            FileNotFoundError: There is no such folder, or it has no `config.json`.
            ValueError: `config.json` is damaged, or of a newer format.
        """
        path = Path(path)
        file = _find_config(path)
        if not file.is_file():
            raise FileNotFoundError(f"{path}: not a run folder (no config.json)")
        values = read_json(file)
        version = values.pop("format", 0)
        if version not in range(FORMAT + 1):
            raise ValueError(f"{file}: `format` must be at most {FORMAT}; received: {version!r}; update kerastag")
        system = values.pop("system", None)
        if not isinstance(system, str):
            raise ValueError(f"{file}: `system` must name a recipe; received: {system!r}")
        if version == 0:
            system, values = _upgrade(system, values)
        return cls(path, system, values)

    def lock(self) -> AbstractContextManager[None]:
        """Return a context in which no other process can train in the folder.

        Entering it raises a BlockingIOError if another process trains there.
        """
        return hold_lock(self.path / "config.json") if self.is_writable else nullcontext()

    @property
    def is_finished(self) -> bool:
        return (self.path / "metrics.json").exists()

    @property
    def model_path(self) -> Path:
        return self.path / "model.keras"

    @property
    def embedder_path(self) -> Path:
        return self.path / "embedder.keras"

    @property
    def head_path(self) -> Path:
        return self.path / "head.keras"

    @property
    def exported_embedder_path(self) -> Path:
        return self.path / "embedder.tflite"

    @property
    def exported_head_path(self) -> Path:
        return self.path / "head.tflite"

    @property
    def exported_model_path(self) -> Path:
        return self.path / "model.tflite"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def report_data_path(self) -> Path:
        return self.path / "report.npz"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def reviews_path(self) -> Path:
        return self.path / "review.sqlite"

    @property
    def state_path(self) -> Path:
        return self.path / "state.npz"

    @property
    def teachers_path(self) -> Path:
        return self.path / "teachers.npy"

    @property
    def synthetic_data_dir(self) -> Path:
        """Folder of the packs of a run without `data_dir`; a baseline has those of the run that it belongs to."""
        parent = self.path.resolve().parent
        is_baseline = self.path.resolve() == parent / BASELINE and _find_config(parent).is_file()
        return (parent if is_baseline else self.path) / "synthetic"

    def subfolder(self, name: str) -> Path:
        """Return the folder of a run that belongs to this one, such as a baseline."""
        return self.path / name

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step_{step:06d}.weights.h5"

    def checkpoint_paths(self, count: int) -> list[Path]:
        """List the checkpoints, by step.

        Args:
            count: Number of checkpoints that a finished run has.

        Raises:
            ValueError: Checkpoints are missing.
        """
        paths = sorted((self.path / "checkpoints").glob("step_*.weights.h5"))
        if len(paths) != count:
            raise ValueError(f"{self.path}: an unfinished run: {len(paths)} of {count} checkpoints")
        return paths

    def metrics(self, *required: str) -> dict[str, Any]:
        """Read `metrics.json`.

        Args:
            *required: Keys that it must have, such as `ensemble.map`.

        Raises:
            FileNotFoundError: The run is not finished.
            ValueError: The file is damaged, lacks a key, or has a value of another type.
        """
        file = self.path / "metrics.json"
        if not file.is_file():
            raise FileNotFoundError(f"{self.path}: not a finished run (no metrics.json)")
        return read_metrics(file, required)

    def read_text(self, name: str) -> str:
        """Read a text file of a finished run, such as `table.md`.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return (self.path / name).read_text(encoding="utf-8")

    def card(self) -> Card:
        """Read the card of `model.keras`, or make one for a run that was written without.

        Raises:
            FileNotFoundError: There is no `model.keras`.
            ValueError: The model has no card, and the run is not one that was trained on AudioSet's embeddings.
        """
        try:
            return Card.read(self.model_path)
        except ValueError:
            if "normalize_input" not in self.config:
                raise
        labels = self.metrics("labels.mids", "labels.names")["labels"]
        config = self.read_config(RunConfig)
        versions = read_json(self.path / "versions.json")
        try:
            return embedding_card(
                LabelSet(tuple(labels["mids"]), tuple(labels["names"])),
                origin=f"{self.system}, trained by kerastag on {', '.join(config.train_packs)}",
                versions=versions,
            )
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def save_model(self, model: Any, card: Card, path: Path | None = None) -> None:
        """Write a model with its card, `model.keras` by default."""

        def write(temporary_path: Path) -> None:
            save_model(model, temporary_path)
            write_card(temporary_path, card)

        if self.is_writable:
            write_atomically(path or self.model_path, write)

    def save_log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `log.csv`, one row for each evaluation."""
        if not self.is_writable:
            return
        columns = ["step", "loss", "mAP", "mAUC", "d_prime", "ensemble_mAP", "checkpoints", "seconds"]
        lines = [[row.get(column, "") for column in columns] for row in rows]
        write_text(self.path / "log.csv", format_csv([columns, *lines]))

    def save_metrics(self, metrics: Mapping[str, Any], *, classes: str, table: str, **files: str) -> None:
        """Write the results of a run, `metrics.json` last.

        Args:
            metrics: JSON values.
            classes: Content of `classes.csv`.
            table: Content of `table.md`.
            **files: Content of further files, by name, with `_` for the dot: `confusion_csv`.
        """
        if not self.is_writable:
            return
        for name, text in {"classes_csv": classes, "table_md": table, **files}.items():
            write_text(self.path / name.replace("_", "."), text)
        write_json(self.path / "metrics.json", metrics)
        self.teachers_path.unlink(missing_ok=True)


def _find_config(path: Path) -> Path:
    """Return the path of the configuration of a run, which was called `settings.json` before version 0.1."""
    file, old_file = path / "config.json", path / "settings.json"
    return old_file if old_file.is_file() and not file.is_file() else file


def embedding_card(labels: LabelSet, *, num_segments: int = 10, origin: str, versions: Mapping[str, str]) -> Card:
    """Make the card of a model that takes AudioSet's released embeddings, which are at 1 Hz.

    Args:
        labels: Classes of the model.
        num_segments: Number of segments of a full clip, at least 1.
        origin: Where the weights come from.
        versions: Versions of the packages that trained the model.
    """
    front_end = FRONT_ENDS["vggish"]
    return Card(
        labels=labels,
        sample_rate=front_end.sample_rate,
        window_seconds=num_segments * EMBEDDING_SECONDS,
        seconds_per_frame=EMBEDDING_SECONDS,
        front_end=front_end.as_dict(),
        origin=origin,
        versions=versions,
    )


def _plain_values(config: Any) -> dict[str, Any]:
    return {name: _convert_tuple(value) for name, value in asdict(config).items()}


def _convert_tuple(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_same_run(folder: RunFolder, system: str, config: Any) -> None:
    # A run of an earlier version lacks the fields that came later, whose defaults change nothing.
    defaults = {field.name: _convert_tuple(field.default) for field in fields(config) if field.default is not MISSING}
    previous = {**defaults, "system": folder.system, **folder.config}
    current = {"system": system, **_plain_values(config)}
    for name in sorted(previous.keys() | current.keys()):
        if name not in NOT_IDENTITY and previous.get(name) != current.get(name):
            raise ValueError(
                f"{folder.path}: holds a run with another configuration: `{name}` was {previous.get(name)!r}; "
                f"received: {current.get(name)!r}; choose another `run_dir` or remove the folder"
            )


def _upgrade(system: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the system and the configuration of a run of the format before version 0.1 in today's names."""
    renamed = {_OLD_FIELDS.get(name, name): value for name, value in values.items()}
    for (name, old_value), value in _OLD_VALUES.items():
        if renamed.get(name) == old_value:
            renamed[name] = value
    return _OLD_SYSTEMS.get(system, system), renamed
