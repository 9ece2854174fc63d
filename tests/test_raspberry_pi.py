"""The device kit `export/raspberry_pi`: its configuration, its systemd unit and its scripts."""

import configparser
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from checks import ROOT
from kerastag.edge import StreamConfig, load_stream_config
from kerastag.edge.sinks import SinkContext, open_sinks

KIT = ROOT / "export/raspberry_pi"
SCRIPTS = sorted(KIT.glob("*.sh"))


def read_unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(KIT / "kerastag.service")
    return parser


def read_config(text, folder):
    path = folder / "kerastag.toml"
    path.write_text(text.replace("/var/lib/kerastag", str(folder)), encoding="utf-8")
    return load_stream_config(str(path), {})


def test_the_configuration_is_valid_as_it_is_and_with_all_commented_keys(tmp_path):
    text = (KIT / "kerastag.toml").read_text(encoding="utf-8")
    plain = read_config(text, tmp_path)
    assert plain.source == "mic"
    complete = read_config(re.sub(r"^# (?=[a-z_]+ = |\[|\")", "", text, flags=re.MULTILINE), tmp_path)
    assert {"classes", "thresholds", "head", "threshold"} <= {
        name for name in StreamConfig.__dataclass_fields__ if getattr(complete, name) != getattr(plain, name)
    }
    local_outputs = [output for output in complete.output if not output["to"].startswith("mqtt")]
    assert len(complete.output) == len(local_outputs) + 1 == 4
    open_sinks(local_outputs, SinkContext()).close()
    keys = {name for line in text.splitlines() if (name := re.match(r"(?:# )?(\w+) = ", line))}
    assert len(keys) > 15


def test_the_commented_mqtt_output_is_valid():
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
    text = (KIT / "kerastag.toml").read_text(encoding="utf-8")
    table = re.search(r"# \[\[output\]\][^\n]*\n((?:# .*\n)+)", text)
    output = tomllib.loads(re.sub(r"^# ", "", table[1], flags=re.MULTILINE))
    assert output["to"].startswith("mqtt://homeassistant.local")
    messages = []
    open_sinks([{**output, "to": "mqtt://127.0.0.1:1/kerastag"}], SinkContext(messages.append)).close()


def test_the_unit_uses_the_paths_of_the_installer():
    service = read_unit()["Service"]
    script = (KIT / "install.sh").read_text(encoding="utf-8")
    paths = dict(re.findall(r"^([A-Z]+)=(/\S+)$", script, flags=re.MULTILINE))
    program, config = service["ExecStart"].split()[0], service["ExecStart"].split()[-1]
    assert program == f"{paths['PREFIX']}/venv/bin/python"
    assert config == f"{paths['CONFIG']}/kerastag.toml"
    assert service["WorkingDirectory"] == paths["STATE"]
    assert service["ExecStart"].split()[1:-1] == ["-m", "kerastag", "stream", "--config"]
    assert load_stream_config(str(KIT / "kerastag.toml"), {}).model == f"{paths['PREFIX']}/models/model.tflite"
    # A shorter watchdog would end a stream while it waits for a source that comes back.
    assert int(service["WatchdogSec"]) > 2 * 10
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["User"] != "root"


def test_systemd_accepts_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs the program systemd-analyze")
    text = (KIT / "kerastag.service").read_text(encoding="utf-8")
    path = tmp_path / "kerastag.service"
    path.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8")
    new_keys = ("RestartSteps", "RestartMaxDelaySec")  # since systemd 254
    messages = [line for line in result.stderr.splitlines() if "kerastag.service" in line]
    assert not [line for line in messages if not any(key in line for key in new_keys)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_no_remarks_on_the_scripts(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs the program shellcheck")
    result = subprocess.run(["shellcheck", script], capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model"], "--model needs a file"),
        (["--model", "gone.tflite"], "--model: gone.tflite: no such file"),
        (["--color"], "--color: no such option"),
        (["--purge"], "--purge needs --uninstall"),
    ],
)
def test_the_installer_rejects_invalid_arguments_before_it_changes_anything(arguments, message):
    result = subprocess.run(
        ["sh", KIT / "install.sh", *arguments], capture_output=True, text=True, timeout=60, encoding="utf-8"
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"install.sh: error: {message}"


def test_the_installer_needs_root():
    if os.geteuid() == 0:
        pytest.skip("needs a user other than root")
    result = subprocess.run(["sh", KIT / "install.sh"], capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert result.stderr == "install.sh: error: needs root: sudo sh install.sh ...\n"
