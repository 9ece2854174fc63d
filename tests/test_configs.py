"""TOMLs by name: from a wheel, an sdist, an editable install and a bare checkout, run from another folder."""

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
from kerastag._configs import config_names, config_path

# What setuptools needs of a checkout.
BUILT_FROM = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "kerastag", "recipes")
# Which kerastag answers, and what it finds.
ASK = """
import json, kerastag, kerastag._configs as c
found = {kind: {name: c.config_path(kind, name).read_text() for name in c.config_names(kind)}
         for kind in ("recipes", "targets")}
print(json.dumps({"home": kerastag.__file__, "found": found, "version": kerastag.__version__}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, with a recipe and a target that no other installation has."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, folder / name)
    for path in (folder / "recipes/only_here.toml", folder / "export/targets/only_there.toml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"seed = 7 # {path.stem}\n")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


def test_a_wheel_has_the_tomls(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    site = unpacked(wheel, tmp_path / "site")
    check_finds_everything(ask(site, tmp_path), home=site, checkout=checkout)


def test_a_wheel_has_every_module_and_data_file_and_only_the_package(wheel: Path, checkout: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"kerastag"}
    # A folder without __init__.py would be left out in silence.
    ours = [*(checkout / "kerastag").rglob("*.py"), *(checkout / "kerastag").rglob("*.tsv")]
    missing = {path.relative_to(checkout).as_posix() for path in ours} | {"kerastag/py.typed"}
    missing -= set(names)
    assert not missing


def test_a_wheel_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = build("wheel", source, tmp_path / "again")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_an_old_build_leaves_no_toml_behind(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkout, source)
    (source / "recipes/gone_tomorrow.toml").write_text("seed = 1\n")
    build("wheel", source, tmp_path / "first")
    (source / "recipes/gone_tomorrow.toml").unlink()
    second = build("wheel", source, tmp_path / "second")
    assert not [name for name in zipfile.ZipFile(second).namelist() if "gone_tomorrow" in name]


def test_an_editable_install_reads_the_checkout(checkout: Path, tmp_path: Path) -> None:
    site = unpacked(build("editable", checkout, tmp_path / "built"), tmp_path / "site")
    assert not (site / "kerastag").exists()
    answer = ask_as_installed(site, tmp_path)
    check_finds_everything(answer, home=checkout, checkout=checkout)
    # A TOML added after the install is there at once.
    (checkout / "recipes/added_later.toml").write_text("seed = 8\n")
    answer = ask_as_installed(site, tmp_path)
    (checkout / "recipes/added_later.toml").unlink()
    assert answer["found"]["recipes"]["added_later"] == "seed = 8\n"


def test_a_bare_checkout_is_enough(checkout: Path, tmp_path: Path) -> None:
    check_finds_everything(ask(checkout, tmp_path), home=checkout, checkout=checkout)


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.toml"
    mine.write_text("seed = 1\n")
    assert config_path("recipes", mine) == mine
    assert config_path("recipes", "mine.toml") == Path("mine.toml")
    assert config_path("recipes", "./mine.toml").read_text() == "seed = 1\n"
    with pytest.raises(FileNotFoundError, match="'mine'"):
        config_path("recipes", "mine")


@pytest.mark.parametrize("name", ["no/such.toml", "./absent", "absent.toml", "absent", ""])
def test_an_absent_config_is_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="`config` must be") as caught:
        config_path("recipes", name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="`kind` must be one of"):
        config_names("plans")


def test_a_misspelled_name_is_answered_with_its_neighbor(checkout: Path, tmp_path: Path) -> None:
    code = "from kerastag._configs import config_path\n"
    code += "try: config_path('recipes', 'only_heer')\nexcept OSError as e: print(e)"
    assert "did you mean only_here" in run_python(code, {"PYTHONPATH": str(checkout)}, cwd=tmp_path)


def build(kind: str, source: Path, output: Path) -> Path:
    """Build by the standard hooks, without isolation: what pip does, less the download of setuptools."""
    pytest.importorskip("setuptools")
    output.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, output], cwd=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = output.iterdir()
    return path


def unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def ask_as_installed(site: Path, cwd: Path) -> dict:
    """As if `site` were the site-packages: the true ones (-S) may hold an editable kerastag of their own."""
    code = f"import site; site.addsitedir({str(site)!r})\n{ASK}"
    return json.loads(run_python(code, {"PYTHONPATH": os.devnull}, cwd=cwd, flags=["-S"]))


def ask(path: Path, cwd: Path) -> dict:
    return json.loads(run_python(ASK, {"PYTHONPATH": str(path)}, cwd=cwd))


def check_finds_everything(answer: dict, home: Path, checkout: Path) -> None:
    assert Path(answer["home"]).parent.parent == home.resolve()
    assert answer["found"]["recipes"] == {p.stem: p.read_text() for p in (checkout / "recipes").glob("*.toml")}
    assert answer["found"]["targets"]["only_there"] == "seed = 7 # only_there\n"
