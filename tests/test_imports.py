"""Tests of who may import whom, beyond the contracts in setup.cfg: no cycles, and nothing heavy on a device."""

import ast
import configparser
import importlib.util
import json
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from checks import ROOT, run_python

PACKAGE = ROOT / "kerastag"
LEAVES = (
    *("audio", "bundled", "card", "dsp", "events", "fetch", "files", "labels", "markdown", "rng"),
    *("_command", "_config_parser", "_configs", "_provenance"),
)
FRAMEWORKS = ("keras", "tensorflow", "jax")
HEAVY = (*FRAMEWORKS, "torch", "scipy", "sklearn", "h5py", "matplotlib", "jsonargparse")
# Imports of one process, in this order, and what none of them may have loaded by then.
LIGHT_IMPORTS = (
    *((name, (*HEAVY, "numpy", "soundfile", "soxr")) for name in ("kerastag", "kerastag.__main__", "kerastag.card")),
    ("kerastag.fetch", ("numpy", "pooch", "requests", "tqdm", "urllib3")),
    ("kerastag.dsp", (*HEAVY, "soundfile")),
    *((f"kerastag.{leaf}", HEAVY) for leaf in LEAVES),
    *(
        (f"kerastag.{package}", FRAMEWORKS)
        for package in ("metrics", "data", "export", "importers", "tagger", "models", "recipes", "training")
    ),
)
HAS_JAX = importlib.util.find_spec("jax") is not None
# Packages that are needed only with an extra.
OPTIONAL = ("tensorflow", "tensorflow_io", "jax", "ai_edge_litert", "tflite_runtime", "shtab", "pyarrow")


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


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("tensorflow", marks=pytest.mark.slow),
        pytest.param("jax", marks=pytest.mark.skipif(not HAS_JAX, reason="needs the package jax (extra `jax`)")),
    ],
)
def test_models_load_and_every_module_imports_without_a_warning_on_one_backend_alone(
    backend: str, tmp_path: Path
) -> None:
    """A model is loaded before its layers are imported. On JAX, only modules for TensorFlow need TensorFlow."""
    from kerastag.models.embedding_models import feature_attention

    path = tmp_path / "model.keras"
    model = feature_attention(3, num_features=6, units=8)
    model.save(path)
    code = f"""
import importlib, json, sys, warnings
if {backend!r} == "jax":
    sys.modules["tensorflow"] = None  # as if it were not installed
warnings.simplefilter("error")
import kerastag
num_parameters = kerastag.load_model({str(path)!r}).count_params()
for name in {sorted(name for name in MODULES if not name.endswith("__main__"))}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {OPTIONAL}:
            raise
for module in ("layers", "models.two_stream", "data.packs", "training.trainer", "metrics"):
    importlib.import_module("kerastag." + module)
import keras
print(json.dumps([num_parameters, keras.backend.backend()]))
"""
    report = json.loads(run_python(code, {"KERAS_BACKEND": backend}, timeout=300).splitlines()[-1])
    assert report == [model.count_params(), backend]


def test_light_imports_load_nothing_heavy() -> None:
    code = f"""
import importlib, json, sys
report = {{}}
for name, heavy in {LIGHT_IMPORTS}:
    dir(importlib.import_module(name))
    report[name] = [module for module in heavy if module in sys.modules]
print(json.dumps(report))
"""
    report = json.loads(run_python(code))
    assert report == {name: [] for name, _ in LIGHT_IMPORTS}


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
        assert not re.search(r"^\s*from\s+\.", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_every_package_has_a_contract() -> None:
    """A new package fails here until setup.cfg states which packages it never imports."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    contracts = [config[name] for name in config.sections() if name.startswith("importlinter:contract:")]
    sources = {source for contract in contracts for source in contract.get("source_modules", "").split()}
    exempt = {"recipes", "_keras", "__main__"}  # they may import everything below them
    assert {f"kerastag.{name}" for name in TOP_LEVEL if name not in exempt} <= sources
