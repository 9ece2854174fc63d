"""Tests of who may import whom, beyond the contracts in setup.cfg: no cycles, and nothing heavy where it is not needed."""

import ast
import configparser
import importlib.util
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from checks import ROOT, run_python

PACKAGE = ROOT / "kerastag"
LEAVES = (
    *("audio", "bundled", "card", "dsp", "events", "fetch", "files", "labels", "markdown", "rng"),
    *("_command", "_config_parser", "_configs", "_provenance"),
)
# Packages that are needed only with an extra.
OPTIONAL = ("tensorflow", "tensorflow_io", "jax", "ai_edge_litert", "tflite_runtime", "shtab")


def find_modules() -> dict[str, Path]:
    """Return every module of kerastag by its dotted name."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = find_modules()
TOP_LEVEL = sorted({name.split(".")[1] for name in MODULES if "." in name})


def find_imports(path: Path) -> set[str]:
    """Return the modules of kerastag that a module imports, anywhere in it."""
    imports: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imports |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
    return imports & set(MODULES)


def test_modules_have_no_import_cycle() -> None:
    """Imports inside functions and under TYPE_CHECKING count as well."""
    graph = {name: find_imports(path) - {name} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the cycle


def test_every_module_imports_without_a_warning() -> None:
    code = f"""
import importlib, warnings
warnings.simplefilter("error")
for name in {sorted(name for name in MODULES if not name.endswith("__main__"))}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {OPTIONAL}:
            raise
        print(name, "needs", error.name)
"""
    run_python(code, timeout=300)


def test_a_leaf_brings_no_framework_to_a_device() -> None:
    heavy = ("keras", "tensorflow", "jax", "torch", "scipy", "sklearn", "h5py", "matplotlib", "jsonargparse")
    imports = "; ".join(f"import kerastag.{leaf}" for leaf in LEAVES)
    assert run_python(f"import sys; {imports}; print([m for m in {heavy} if m in sys.modules])").strip() == "[]"


@pytest.mark.parametrize(
    "package", ["metrics", "data", "export", "importers", "tagger", "models", "recipes", "training"]
)
def test_a_package_can_be_imported_without_a_framework(package: str) -> None:
    code = f"import sys, kerastag.{package}; print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the package jax (extra `jax`)")
def test_layers_models_data_and_training_work_with_jax_alone() -> None:
    code = """
import importlib, sys
sys.modules["tensorflow"] = None  # as if it were not installed
for module in ("layers", "models.two_stream", "data.packs", "training.trainer", "metrics"):
    importlib.import_module("kerastag." + module)
import keras
print(keras.backend.backend())
"""
    assert run_python(code, {"KERAS_BACKEND": "jax"}).strip() == "jax"


def test_recipes_import_no_other_recipe() -> None:
    recipes = {name for name in MODULES if name.startswith("kerastag.recipes.") and name.split(".")[2][0] != "_"}
    assert recipes
    for name in MODULES:
        if name.startswith("kerastag.recipes."):
            others = (find_imports(MODULES[name]) & recipes) - {name}
            assert not others, (
                f"{name} imports {sorted(others)}: what recipes share goes into a module with an underscore"
            )


def test_no_module_imports_relatively() -> None:
    """The tests above, and readers, see where a name comes from."""
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}"


def test_every_package_has_a_contract() -> None:
    """A new package fails here until setup.cfg states which packages it never imports."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    contracts = [config[name] for name in config.sections() if name.startswith("importlinter:contract:")]
    sources = {source for contract in contracts for source in contract.get("source_modules", "").split()}
    exempt = {"recipes", "_keras", "__main__"}  # they may import everything below them
    assert {f"kerastag.{name}" for name in TOP_LEVEL if name not in exempt} <= sources
