"""Tests of the package itself: there is one version, and every public name exists and has types."""

import ast
import re
from collections.abc import Iterator
from importlib import metadata

import pytest

import kerastag
from checks import ROOT


def test_every_public_name_exists() -> None:
    for name in kerastag.__all__:
        assert getattr(kerastag, name) is not None
        assert name in dir(kerastag)
    packages = {path.parent.name for path in (ROOT / "kerastag").glob("*/__init__.py")}
    packages -= {"bundled", "cli", "label_tables"}
    assert {*kerastag._DEFINING_MODULES, *packages, "__version__"} == set(kerastag.__all__)


def test_a_preset_is_not_a_model_file() -> None:
    with pytest.raises(FileNotFoundError, match="mn04_as: no such file; `kerastag.Tagger.load` takes presets, such as"):
        kerastag.load_model("mn04_as")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kerastag' has no attribute 'Taggre'"):
        _ = kerastag.Taggre


def test_the_version_has_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", kerastag.__version__)
    assert kerastag.__version__ not in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_an_installed_package_has_the_same_version() -> None:
    try:
        installed = metadata.version("kerastag")
    except metadata.PackageNotFoundError:
        pytest.skip("kerastag is not installed; it runs from its checkout")
    assert installed == kerastag.__version__


def test_every_public_constructor_and_function_has_type_annotations() -> None:
    """Mypy checks the same for everything but the layers, whose `call` and `build` take any tensor."""
    bare = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in sorted((ROOT / "kerastag").rglob("*.py"))
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body)
        if not has_annotations(function)
    ]
    assert not bare, bare


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Yield the public functions of a module, and the constructors of its public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")


def has_annotations(function: ast.FunctionDef) -> bool:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return all(a.annotation for a in named if a.arg != "self") and (function.returns or function.name == "__init__")
