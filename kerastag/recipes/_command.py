"""From the command line to a recipe's settings, and from an error to one line."""

import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonargparse

from kerastag._command import prepare_tensorflow
from kerastag._configs import find_config, list_configs

_FEW_STEPS = {"steps": 3, "batch_size": 8, "evaluate_every": 0, "checkpoints": 2, "warmup_steps": 0}


def command(settings_class: type, work: Callable[[Any], object], recipe: str, argv: Sequence[str] | None = None) -> int:
    """A settings class and what to do with settings -> the exit status of the command.

    Flags override the TOML of `--config`, which overrides the defaults. Without `--config` and `--data_dir` the TOML
    is `RECIPE_synthetic`. `--smoke` then cuts the run to three small steps, in a folder of its own that each such run
    begins anew; `--debug` shows tracebacks.
    """
    prepare_tensorflow()
    argv = list(sys.argv[1:] if argv is None else argv)
    debug, smoke = (flag in argv for flag in ("--debug", "--smoke"))
    try:
        settings = parse(settings_class, recipe, [a for a in argv if a not in ("--debug", "--smoke")])
        if smoke:
            settings = _few_steps(settings, recipe)
        work(settings)
    except KeyboardInterrupt:
        print(f"{recipe}: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if debug:
            raise
        print(f"{recipe}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _few_steps(settings: Any, recipe: str) -> Any:
    """Settings -> the same, cut to three small steps; without a `run_dir` in an empty folder, for smoke alone."""
    kept = {f.name: getattr(settings, f.name) for f in fields(settings)}
    cut: dict[str, Any] = {name: value for name, value in _FEW_STEPS.items() if name in kept}
    if kept.get("run_dir", "") is None:
        folder = Path("runs", recipe, "smoke")
        shutil.rmtree(folder, ignore_errors=True)
        cut["run_dir"] = str(folder)
    return type(settings)(**{**kept, **cut})


def parse(settings_class: type, recipe: str, argv: Sequence[str]) -> Any:
    """Arguments -> an instance of the settings dataclass.

    Raises:
        ValueError: an unknown flag or key, or a value of another type; the TOML file is named.
        FileNotFoundError: no such TOML.
    """
    argv = [part for a in argv for part in (a.split("=", 1) if a.startswith("--config=") else [a])]
    named = "--config" in argv[:-1]
    if named:
        argv[argv.index("--config") + 1] = str(find_config("recipes", argv[argv.index("--config") + 1]))
    elif f"{recipe}_synthetic" in list_configs("recipes") and not any(a.startswith("--data_dir") for a in argv):
        argv = ["--config", str(find_config("recipes", f"{recipe}_synthetic")), *argv]
    parser = jsonargparse.ArgumentParser(
        prog=f"python -m kerastag.recipes.{recipe}",
        description=" ".join((sys.modules[settings_class.__module__].__doc__ or recipe).split()),
        parser_mode="toml",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="TOML file, or the name of one that comes with kerastag.")
    parser.add_class_arguments(settings_class, None)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="Three steps of a tiny batch, the model at full size; in runs/NAME/smoke, unless told otherwise.",
    )
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    for path in [argv[i + 1] for i, a in enumerate(argv[:-1]) if a == "--config"]:
        try:
            parser.parse_path(path)
        except Exception as error:
            raise ValueError(f"{path}: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = parser.parse_args(argv)
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(str(error)) from error
    return settings_class(**{f.name: values[f.name] for f in fields(settings_class) if f.init})
