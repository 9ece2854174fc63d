"""export/raspberry_pi, what goes on the device: a configuration that is one, a unit and scripts that linters accept."""

import configparser
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from checks import ROOT
from kerastag.edge.settings import StreamSettings
from kerastag.edge.sinks import Surroundings, open_outputs

KIT = ROOT / "export/raspberry_pi"
SCRIPTS = sorted(KIT.glob("*.sh"))


def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(KIT / "kerastag.service")
    return parser


def settings(text, folder):
    path = folder / "kerastag.toml"
    path.write_text(text.replace("/var/lib/kerastag", str(folder)))
    return StreamSettings.read(str(path), {})


def test_the_configuration_is_one_as_it_is_and_with_all_that_it_offers(tmp_path):
    text = (KIT / "kerastag.toml").read_text()
    plain = settings(text, tmp_path)
    assert plain.source == "mic"
    everything = settings(re.sub(r"^# (?=[a-z_]+ = |\[|\")", "", text, flags=re.MULTILINE), tmp_path)
    assert {"classes", "thresholds", "head", "threshold"} <= {
        name for name in StreamSettings.__dataclass_fields__ if getattr(everything, name) != getattr(plain, name)
    }
    local = [output for output in everything.output if not output["to"].startswith("mqtt")]
    assert len(everything.output) == len(local) + 1 == 4
    open_outputs(local, Surroundings()).close()
    keys = {name for line in text.splitlines() if (name := re.match(r"(?:# )?(\w+) = ", line))}
    assert len(keys) > 15


def test_the_mqtt_output_that_it_offers_is_one():
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
    text = (KIT / "kerastag.toml").read_text()
    table = re.search(r"# \[\[output\]\][^\n]*\n((?:# .*\n)+)", text)
    output = tomllib.loads(re.sub(r"^# ", "", table[1], flags=re.MULTILINE))
    assert output["to"].startswith("mqtt://homeassistant.local")
    said = []
    open_outputs([{**output, "to": "mqtt://127.0.0.1:1/kerastag"}], Surroundings(said.append)).close()


def test_the_unit_runs_the_stream_with_what_the_installer_puts_in_place():
    service = unit()["Service"]
    script = (KIT / "install.sh").read_text()
    places = dict(re.findall(r"^([A-Z]+)=(/\S+)$", script, flags=re.MULTILINE))
    program, config = service["ExecStart"].split()[0], service["ExecStart"].split()[-1]
    assert program == f"{places['PREFIX']}/venv/bin/python"
    assert config == f"{places['CONFIG']}/kerastag.toml"
    assert service["WorkingDirectory"] == places["STATE"]
    assert service["ExecStart"].split()[1:-1] == ["-m", "kerastag", "stream", "--config"]
    assert StreamSettings.read(str(KIT / "kerastag.toml"), {}).model == f"{places['PREFIX']}/models/model.tflite"
    # A watchdog shorter than what a source is waited for would end streams that come back by themselves.
    assert int(service["WatchdogSec"]) > 2 * 10
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["User"] != "root"


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs the program systemd-analyze")
    text = (KIT / "kerastag.service").read_text()
    path = tmp_path / "kerastag.service"
    path.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    known_later = ("RestartSteps", "RestartMaxDelaySec")  # from systemd 254
    ours = [line for line in checked.stderr.splitlines() if "kerastag.service" in line]
    assert not [line for line in ours if not any(key in line for key in known_later)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_the_scripts(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs the program shellcheck")
    checked = subprocess.run(["shellcheck", script], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model"], "--model needs a file"),
        (["--model", "gone.tflite"], "--model: gone.tflite: there is no such file"),
        (["--color"], "--color: no such option"),
        (["--purge"], "--purge goes with --uninstall"),
    ],
)
def test_the_installer_says_what_it_lacks_before_it_does_anything(arguments, message):
    asked = subprocess.run(["sh", KIT / "install.sh", *arguments], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 1
    assert asked.stderr.splitlines()[-1] == f"install.sh: error: {message}"


def test_the_installer_needs_root():
    if os.geteuid() == 0:
        pytest.skip("needs a user who is not root")
    asked = subprocess.run(["sh", KIT / "install.sh"], capture_output=True, text=True, timeout=60)
    assert asked.stderr == "install.sh: error: needs root: sudo sh install.sh ...\n"
