"""A recipe: the declaration of one published system, and its command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerastag._command import run_command
from kerastag.recipes._configuration import parse_arguments
from kerastag.training.distributed import check_agreement, exit_after_failure, is_main_process, join_processes
from kerastag.training.run_folder import RunFolder
from kerastag.training.task import Task

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """One published system.

    Attributes:
        name: Name of the module in `kerastag.recipes`.
        description: Docstring of the module, which `--help` shows.
        kind: `embeddings`, `waveforms`, `two_streams` or `scores`: the tables of TOML overlays that apply.
        config: Configuration dataclass, whose defaults are the published run.
        run_synthetic: Function of the recipe, its configuration and its run folder that runs it without data.
        task: Kind of system that is trained; None for a system without a network.
        compute_scores: For a system without a network: function of the configuration and the clips of a run that
            returns a dict with `scores`, `(clips, classes)`, and JSON values to save with the metrics.
        defaults: Values of configuration fields that make it this system.
    """

    name: str
    description: str
    kind: str
    config: type
    run_synthetic: Callable[["Recipe", Any, RunFolder], None]
    task: Task | None = None
    compute_scores: Callable[[Any, Any], Mapping[str, Any]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def configure(self, **values: Any) -> Any:
        """Return the configuration of the published run with some fields changed."""
        return self.config(**{**self.defaults, **values})

    def parse(self, argv: Sequence[str]) -> Any:
        """Parse arguments into a configuration."""
        return parse_arguments(
            argv,
            name=self.name,
            kind=self.kind,
            description=self.description,
            config_class=self.config,
            defaults=self.defaults,
        )

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command `kerastag train NAME`, or `python -m kerastag.recipes.NAME`, and return its exit status."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        command = f"kerastag train {self.name}"
        status = run_command(command, lambda: self._parse_and_run(arguments, command), debug="--debug" in arguments)
        return exit_after_failure(status)

    def _parse_and_run(self, arguments: Sequence[str], command: str) -> int:
        config = self.parse(arguments)
        if self.task is None:
            return self._run(config)
        with join_processes(config, command):
            return self._run(config)

    def _run(self, config: Any) -> int:
        try:
            if config.data_dir is None:
                self.run_synthetic(self, config, self.open_folder(config))
            else:
                metrics = self.run(config, Path(config.data_dir))
                if is_main_process():
                    self.print_results(metrics, self.open_folder(config))
        except KeyboardInterrupt as interrupt:
            interrupt.add_note("repeat the command to resume the run")
            raise
        return 0

    def open_folder(self, config: Any) -> RunFolder:
        """Create the folder of a run, or open it to resume the run."""
        path = config.run_dir or f"runs/{self.name}/seed_{config.seed}"
        return RunFolder.create(path, self.name, config, is_main_process())

    def run(self, config: Any, data_dir: Path) -> dict[str, Any]:
        """Train and evaluate the system, unless the run is finished.

        Args:
            config: Configuration of the run.
            data_dir: Folder of packs.

        Returns:
            The content of `metrics.json`.
        """
        folder = self.open_folder(config)
        check_agreement("`run_dir` must be one folder for all processes; a finished run in it", folder.is_finished)
        if folder.is_finished:
            if is_main_process():
                print(f"{folder.path}: already finished; its metrics are shown again", file=sys.stderr)
            return folder.metrics()
        with folder.lock():
            if self.task is None:
                from kerastag.training.evaluation import evaluate_scores

                assert self.compute_scores is not None
                return evaluate_scores(folder, self.compute_scores, config, data_dir)
            from kerastag.training.trainer import train

            return train(folder, self.task, config, data_dir)

    @staticmethod
    def print_results(metrics: Mapping[str, Any], folder: RunFolder) -> None:
        """Print the metrics of a run, with one line of the most important ones at the end."""
        from kerastag.metrics.classification import Metrics
        from kerastag.training.report import format_metrics

        try:
            line = Metrics.from_dict(metrics["ensemble"]).format_line()
            table = format_metrics(metrics)
        except (KeyError, TypeError, ValueError) as error:  # of a finished run, whose files may be damaged
            reason = f"key {error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder.path / 'metrics.json'}: {reason}") from error
        print(f"{table}\nrun folder: {folder.path}\n{line}")
