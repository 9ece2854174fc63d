"""The package itself: light to import, one version, every public name where it says."""

import re
from importlib import metadata

import pytest

import kerastag
from checks import ROOT, run_python

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "sklearn", "h5py", "soundfile", "soxr", "pooch")


def test_importing_it_loads_no_framework_and_not_even_numpy() -> None:
    code = f"import sys, kerastag; dir(kerastag); print([m for m in {FRAMEWORKS} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_the_command_loads_no_framework_before_its_subcommand_needs_it() -> None:
    code = f"import sys, kerastag.__main__; print([m for m in {FRAMEWORKS} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in kerastag.__all__:
        assert getattr(kerastag, name) is not None
        assert name in dir(kerastag)
    assert set(kerastag._HOMES) | {"__version__"} == set(kerastag.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kerastag' has no attribute 'Taggre'"):
        _ = kerastag.Taggre


def test_the_version_has_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", kerastag.__version__)
    assert kerastag.__version__ not in (ROOT / "setup.cfg").read_text()


def test_an_installed_package_says_the_same_version() -> None:
    try:
        installed = metadata.version("kerastag")
    except metadata.PackageNotFoundError:
        pytest.skip("kerastag runs from its checkout here, without being installed")
    assert installed == kerastag.__version__
