"""TOML files by name: in a wheel, an sdist, an editable install and a bare checkout, from another folder."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from checks import ROOT, run_python
from kerastag._configs import find_config, list_configs

# The files of a checkout that setuptools needs.
BUILT_FROM = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "kerastag", "recipes")
# Prints which kerastag is imported, and the TOML files that it has.
REPORT_CODE = """
import json, kerastag, kerastag._configs as c
configs = {kind: {name: c.find_config(kind, name).read_text() for name in c.list_configs(kind)}
           for kind in ("recipes", "targets")}
print(json.dumps({"home": kerastag.__file__, "configs": configs, "version": kerastag.__version__}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout to a folder to build in, with a recipe and a target that no other installation has."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, folder / name)
    for path in (folder / "recipes/only_here.toml", folder / "export/targets/only_there.toml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"seed = 7 # {path.stem}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def test_a_wheel_has_the_toml_files(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    site = unpack(wheel, tmp_path / "site")
    check_configs(report_configs(site, tmp_path), home=site, checkout=checkout)


def test_a_wheel_has_every_module_and_data_file_and_only_the_package(wheel: Path, checkout: Path) -> None:
    names = list_names(wheel)
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"kerastag"}
    # A folder without __init__.py would be missing without an error.
    paths = [*(checkout / "kerastag").rglob("*.py"), *(checkout / "kerastag").rglob("*.tsv")]
    missing = {path.relative_to(checkout).as_posix() for path in paths} | {"kerastag/py.typed"}
    missing -= set(names)
    assert not missing


def test_a_wheel_from_the_sdist_is_the_same_and_a_second_one_has_no_deleted_toml_file(
    checkout: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(build("sdist", checkout, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    names = list_names(build("wheel", source, tmp_path / "first"))
    assert names == list_names(wheel)
    (source / "recipes/only_here.toml").unlink()
    removed = set(names) - set(list_names(build("wheel", source, tmp_path / "second")))
    assert removed == {"kerastag/_toml/recipes/only_here.toml"}


def test_an_editable_install_reads_the_checkout(checkout: Path, tmp_path: Path) -> None:
    site = unpack(build("editable", checkout, tmp_path / "built"), tmp_path / "site")
    assert not (site / "kerastag").exists()
    report = report_as_installed(site, tmp_path)
    check_configs(report, home=checkout, checkout=checkout)
    # A TOML file that is added after the installation can be used at once.
    (checkout / "recipes/added_later.toml").write_text("seed = 8\n", encoding="utf-8")
    report = report_as_installed(site, tmp_path)
    (checkout / "recipes/added_later.toml").unlink()
    assert report["configs"]["recipes"]["added_later"] == "seed = 8\n"


def test_a_bare_checkout_has_the_toml_files(checkout: Path, tmp_path: Path) -> None:
    check_configs(report_configs(checkout, tmp_path), home=checkout, checkout=checkout)


def test_a_path_has_priority_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text("seed = 1\n", encoding="utf-8")
    assert find_config("recipes", path) == path
    assert find_config("recipes", "mine.toml") == Path("mine.toml")
    assert find_config("recipes", "./mine.toml").read_text(encoding="utf-8") == "seed = 1\n"
    with pytest.raises(FileNotFoundError, match="'mine'"):
        find_config("recipes", "mine")


@pytest.mark.parametrize("name", ["no/such.toml", "./absent", "absent.toml", "absent", ""])
def test_a_missing_config_is_an_error_of_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="`config` must be") as error:
        find_config("recipes", name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(ValueError, match="`kind` must be one of"):
        list_configs("plans")


def test_the_error_of_a_misspelled_name_proposes_a_similar_one(checkout: Path, tmp_path: Path) -> None:
    code = "from kerastag._configs import find_config\n"
    code += "try: find_config('recipes', 'only_heer')\nexcept OSError as e: print(e)"
    assert "did you mean only_here" in run_python(code, {"PYTHONPATH": str(checkout)}, cwd=tmp_path)


def build(kind: str, source: Path, output: Path) -> Path:
    """Build with the standard hooks and without isolation, so that setuptools is not downloaded."""
    pytest.importorskip("setuptools")
    output.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, output], cwd=source, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = output.iterdir()
    return path


def list_names(wheel: Path) -> list[str]:
    return sorted(zipfile.ZipFile(wheel).namelist())


def unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def report_as_installed(site: Path, cwd: Path) -> dict:
    """Report with `site` as site-packages; -S hides the real ones, which may contain an editable kerastag."""
    code = f"import site; site.addsitedir({str(site)!r})\n{REPORT_CODE}"
    return json.loads(run_python(code, {"PYTHONPATH": os.devnull}, cwd=cwd, flags=["-S"]))


def report_configs(path: Path, cwd: Path) -> dict:
    return json.loads(run_python(REPORT_CODE, {"PYTHONPATH": str(path)}, cwd=cwd))


def check_configs(report: dict, home: Path, checkout: Path) -> None:
    assert Path(report["home"]).parent.parent == home.resolve()
    assert report["configs"]["recipes"] == {
        p.stem: p.read_text(encoding="utf-8") for p in (checkout / "recipes").glob("*.toml")
    }
    assert report["configs"]["targets"]["only_there"] == "seed = 7 # only_there\n"
