"""The locked requirements of CI fit those of setup.cfg, and hold a hash of each file."""

import configparser
import re
from collections import defaultdict

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from checks import ROOT


def read_extras(variable):
    """Return the extras that `make` installs, by the name of their variable."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.search(rf"^{variable} := (.+)$", text, re.MULTILINE)[1].split()


def collect_requirements(extras):
    """Return the requirements of the base install and of extras, also of those that these refer to."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    requirements, extras = [], list(extras)
    for lines in (config["options"]["install_requires"], *(config["options.extras_require"][name] for name in extras)):
        for requirement in map(Requirement, filter(None, lines.splitlines())):
            if requirement.name == "kerastag":
                requirements += collect_requirements(requirement.extras)
            else:
                requirements.append(requirement)
    return requirements


def read_locked_versions(path):
    versions = defaultdict(list)
    for name, version in re.findall(r"^([^ #\[=]+)(?:\[.*\])?==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        versions[canonicalize_name(name)].append(version)
    return versions


def find_stale_requirements(requirements, versions):
    return [
        f"{requirement} is required, {', '.join(versions[canonicalize_name(requirement.name)]) or 'nothing'} is locked"
        for requirement in requirements
        if not any(version in requirement.specifier for version in versions[canonicalize_name(requirement.name)])
    ]


@pytest.mark.parametrize(("variable", "name"), [("EXTRAS", "ci.txt"), ("LEGACY_EXTRAS", "legacy.txt")])
def test_the_lock_has_what_setup_cfg_requires(variable, name):
    """A newer release elsewhere does not make a lock stale, only other requirements do."""
    versions = read_locked_versions(ROOT / "requirements" / name)
    stale = find_stale_requirements(collect_requirements(read_extras(variable)), versions)
    assert not stale, f"requirements/{name} is stale, run `make lock`: {'; '.join(stale)}"


def test_a_stale_lock_is_named():
    versions = read_locked_versions(ROOT / "requirements" / "ci.txt")
    (line,) = find_stale_requirements([Requirement("numpy>=1000"), Requirement("h5py>=3")], versions)
    assert re.fullmatch(r"numpy>=1000 is required, [\d., ]+ is locked", line)
    assert find_stale_requirements([Requirement("unknown")], versions) == ["unknown is required, nothing is locked"]


@pytest.mark.parametrize("name", ["ci.txt", "legacy.txt"])
def test_every_locked_version_has_hashes(name):
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    lines = [line for line in re.sub(r" \\\n", " ", text).splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"\S+==\S+( ;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+", line), line
