"""Who may import whom, as far as running shows it; the rest of the table are contracts in setup.cfg."""

import ast
import configparser
import importlib.util
from pathlib import Path

import pytest

from checks import ROOT, run_python

PACKAGE = ROOT / "kerastag"
LEAVES = ("boxed", "labels", "card", "audio", "dsp", "events", "fetch", "_configs")
# Modules that only those need who have installed an extra.
OPTIONAL = ("tensorflow", "tensorflow_io", "jax", "ai_edge_litert", "tflite_runtime", "apache_beam")


def rooms() -> list[str]:
    """The modules and packages that stand in kerastag itself."""
    paths = [*PACKAGE.glob("*.py"), *(path.parent for path in PACKAGE.glob("*/__init__.py"))]
    return sorted(path.stem for path in paths if path.stem != "__init__")


def modules() -> list[str]:
    """Every module of kerastag by its dotted name, less the `__main__` that importing is not for."""
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    return sorted(".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts)


def test_every_module_imports_without_a_warning() -> None:
    code = f"""
import importlib, warnings
warnings.simplefilter("error")
for name in {modules()}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {OPTIONAL}:
            raise
        print(name, "needs", error.name)
"""
    run_python(code, timeout=300)


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf in rooms()])
def test_a_leaf_brings_no_framework_to_the_device(leaf: str) -> None:
    heavy = ("keras", "tensorflow", "jax", "torch", "scipy", "sklearn", "h5py", "matplotlib", "pooch")
    code = f"import sys, kerastag.{leaf}; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_metrics_bring_no_framework() -> None:
    code = "import sys, kerastag.metrics; print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the package jax (extra `jax`)")
def test_a_machine_with_jax_alone_has_layers_models_data_and_training() -> None:
    rooms_there = [room for room in ("layers", "models", "data", "training", "metrics") if room in rooms()]
    code = f"""
import importlib, sys
sys.modules["tensorflow"] = None  # as if it were not installed
for room in {rooms_there}:
    importlib.import_module("kerastag." + room)
import keras
print(keras.backend.backend())
"""
    assert run_python(code, {"KERAS_BACKEND": "jax"}).strip() == "jax"


def test_recipes_import_no_recipe_but_the_shared_helpers() -> None:
    folder = PACKAGE / "recipes"
    recipes = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert recipes, f"no recipe in {folder}"
    for path in folder.glob("*.py"):
        borrowed = (imported_recipes(path) & recipes) - {path.stem}
        assert not borrowed, f"{path.name} imports the recipes {sorted(borrowed)}: what they share goes to a _helper"


def imported_recipes(path: Path) -> set[str]:
    """The names below `kerastag.recipes` that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "kerastag.recipes":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerastag.recipes."):
            found.add(str(node.module).split(".")[2])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[2] for a in node.names if a.name.startswith("kerastag.recipes.")}
    return found


def test_no_module_imports_relatively() -> None:
    """The checks above, and readers, see where a name comes from."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}"


def test_every_room_has_a_contract() -> None:
    """A new room fails here until setup.cfg says which packages it never imports."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    contracts = [config[name] for name in config.sections() if name.startswith("importlinter:contract:")]
    held = {source for contract in contracts for source in contract.get("source_modules", "").split()}
    free = {"recipes", "__main__"}  # they may import everything below them
    assert {f"kerastag.{room}" for room in rooms() if room not in free} <= held
