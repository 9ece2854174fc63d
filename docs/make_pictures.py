"""Make the pictures of the documentation, each from a real run: `docs/pictures/`.

    python docs/make_pictures.py [NAME ...] [--model mn04_as] [--runs FOLDER] [--paper1-runs FOLDER]

| name | picture |
| --- | --- |
| `attention` | probabilities over time of feature-level attention, and class-wise AP beside a baseline |
| `windows` | the sub-clips that GL-AT selects, on the log-mel of a synthetic soundscape |
| `ablations` | mAP of GL-AT over the number and the length of sub-clips, as in `benchmarks/figures/` |
| `delay` | mAP on AudioSet's evaluation clips after their first seconds, as in `benchmarks/figures/` |
| `paper1` | figures 4 and 6 to 9 of paper 1, from runs of `benchmarks/paper1.py`, which take hours |
| `page` | the page of `kerastag serve` with its example, in Chromium |
| `stream` | `kerastag stream` in a terminal, as an animation |

Systems are trained on synthetic data, in a few minutes on two cores, except those of `paper1`; `--model` is that of the
page. The recordings are synthetic, and may be shown.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/pictures"
SOUNDS = ((0.5, "cries", 5), (10.0, "rain", 8))
"""Start in seconds, kind, and number of cries or seconds of rain, of the recording that is streamed."""
COLUMNS, LINES = 80, 14
GREEN, RED = "#0a7e72", "#c1121f"
PAPER1 = {
    "paper1_figure_4.png": 110,
    "paper1_figure_6.png": 110,
    "paper1_figure_7.png": 110,
    "paper1_figure_8.png": 110,
    "paper1_figure_9.png": 75,
}
"""Dots per inch of the figures of paper 1."""


def main() -> int:
    """Make the pictures that are named, or all of them."""
    makers = {name[5:]: function for name, function in globals().items() if name.startswith("make_")}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Pictures: {', '.join(makers)} (default: all).")
    parser.add_argument("--model", default="mn04_as", help="Model of the page, NAME=PATH or a name (default: mn04_as).")
    parser.add_argument("--runs", type=Path, help="Folder for the runs, which are kept (default: a temporary one).")
    parser.add_argument("--paper1-runs", type=Path, help="Folder with runs of benchmarks/paper1.py, for `paper1`.")
    args = parser.parse_args()
    if args.paper1_runs is None:
        if "paper1" in args.names:
            parser.error("`--paper1-runs` must be given for `paper1`")
        del makers["paper1"]
    if unknown := sorted(set(args.names) - makers.keys()):
        parser.error(f"`NAME` must be one of {', '.join(makers)}; received: {unknown[0]!r}")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    with contextlib.nullcontext(args.runs) if args.runs else tempfile.TemporaryDirectory() as name:
        for maker in args.names or makers:
            makers[maker](Path(name), args)
            print(f"made: {maker}", file=sys.stderr)
    return 0


def make_attention(folder: Path, args: argparse.Namespace) -> None:
    """Train feature-level attention and its baseline, and copy two of their plots."""
    run = folder / "attention"
    _run_kerastag("train", "feature_attention", "--run-dir", run)
    _run_kerastag("tables", run, run / "baseline", "--output", folder / "tables")
    shutil.copyfile(run / "attention.png", FOLDER / "attention.png")
    shutil.copyfile(folder / "tables/figure_8.png", FOLDER / "class_wise_ap.png")


def make_windows(folder: Path, args: argparse.Namespace) -> None:
    """Train GL-AT, and draw the sub-clips of the classes that a soundscape has."""
    import keras
    import numpy as np

    from kerastag.data.soundscape_mixer import SoundscapeConfig
    from kerastag.data.soundscapes import write_synthetic_soundscapes
    from kerastag.dsp import FrontEnd
    from kerastag.models.loading import load_model
    from kerastag.recipes._evaluation import load_run
    from kerastag.training.evaluation import predict_evaluation

    rules = SoundscapeConfig(max_events=3, snr_db=(10.0, 25.0))
    packs, run = folder / "packs", folder / "gl_at"
    if not run.is_dir():
        write_synthetic_soundscapes(packs, sample_rate=32_000, config=rules, counts={"bal_train": 400, "eval": 60})
    steps = ("--steps", 100, "--checkpoints", 1, "--evaluate-every", 100)
    _run_kerastag("train", "gl_at", "--config", "synthetic", *steps, "--data-dir", packs, "--run-dir", run)
    data = load_run(run)
    model = load_model(data.folder.model_path)
    outputs = keras.Model(model.input, [model.output[name] for name in ("clipwise", "start_seconds", "classes")])
    clipwise, starts, classes = predict_evaluation(outputs, data.config, data.data)
    events, targets = data.data.events(), data.data.targets
    # Of the clips with the most classes, the one in which the least probable of its classes is most probable.
    clips = np.flatnonzero(targets.sum(axis=1) == targets.sum(axis=1).max())
    clip = max(clips, key=lambda row: clipwise[row][targets[row]].min())
    waveform = data.data.evaluation.rows(data.data.evaluation_rows[[clip]])[0][0] / np.float32(32_768)
    log_mel = FrontEnd.from_dict(data.folder.card().front_end).compute_log_mel(waveform)
    rows = [
        (data.data.labels.names[k], _list_events(events, clip, k), starts[clip][classes[clip] == k], clipwise[clip][k])
        for k in np.flatnonzero(targets[clip])
    ]
    _draw_windows(log_mel, data.data.clip_seconds, rows, model.get_layer("select").sub_clip_seconds)


def _list_events(events: Any, clip: int, class_index: int) -> list[tuple[float, float]]:
    """List the start and the duration of the events of a class in a clip."""
    rows = (events.clip == clip) & (events.class_index == class_index)
    return list(zip(events.onset[rows], events.durations[rows], strict=True))


def _draw_windows(log_mel: Any, seconds: float, rows: list[tuple[str, Any, Any, float]], length: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.2 + 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[2, len(rows)])
    axes[0].imshow(log_mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, log_mel.shape[1]), cmap="magma")
    axes[0].set(ylabel="mel band", title="log-mel of a synthetic soundscape")
    for position, (_, spans, starts, _) in enumerate(rows):
        axes[1].broken_barh(spans, (position - 0.3, 0.6), color="0.8", label="event")
        for start in starts:
            style = {"facecolor": "none", "edgecolor": RED, "linewidth": 1.5, "label": f"sub-clip of {length:g} s"}
            axes[1].broken_barh([(start, length)], (position - 0.4, 0.8), **style)
    axes[1].set(xlabel="time (s)", xlim=(0, seconds), ylim=(len(rows) - 0.5, -0.5))
    axes[1].set_yticks(range(len(rows)), [f"{name}\nclip {probability:.2f}" for name, _, _, probability in rows])
    by_label = {label: handle for handle, label in zip(*axes[1].get_legend_handles_labels(), strict=True)}
    figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(FOLDER / "gl_at_windows.png", dpi=110)
    _reduce_colors(FOLDER / "gl_at_windows.png", 64)


def make_ablations(folder: Path, args: argparse.Namespace) -> None:
    """Draw mAP over the number and the length of sub-clips from the recorded figures."""
    from matplotlib.figure import Figure

    from benchmarks import _figures

    row = next(row for row in _figures.read_rows("gl_at_ablations") if "mAP" in row.values())
    columns = [title for title in row if title != "alone" and row[title][:2] == "0."]
    split = next(i for i, title in enumerate(columns) if title.startswith("τ"))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = (
        (columns[:split], "sub-clips N, of 3 s", (5, 7), "paper: rises to 5, then level"),
        (columns[split:], "length of a sub-clip, s (N = 5)", (3, 4), "paper: best at 3 to 4"),
    )
    for axis, (titles, label, best, claim) in zip(axes, panels, strict=True):
        values = [int(re.findall(r"\d+", title)[0]) for title in titles]
        axis.axvspan(best[0] - 0.25, best[1] + 0.25, alpha=0.15, color="gray", label=claim)
        axis.plot(values, [float(row[title]) for title in titles], marker="o", color=GREEN, label="CNN10 with GL-AT")
        axis.axhline(float(row["alone"]), linestyle=":", color=GREEN, label="CNN10 alone")
        axis.set(xlabel=label, xticks=values)
        axis.legend(fontsize="small")
    axes[0].set_ylabel("mAP on soundscapes of fold 5")
    figure.savefig(FOLDER / "gl_at_ablations.png", dpi=110)


def make_delay(folder: Path, args: argparse.Namespace) -> None:
    """Draw mAP over the number of seconds that a network has processed, from the recorded figures."""
    from matplotlib.figure import Figure

    from benchmarks import _figures

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rows = _figures.read_rows("delay")
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for row in rows:
        values = {int(title[:-2]): float(value) for title, value in row.items() if re.fullmatch(r"\d+ s", title)}
        style = "--" if row["trained on"] == "whole clips" else "-"
        color, label = (RED, GREEN)[systems.index(row["system"])], f"{row['system']}, trained on {row['trained on']}"
        axes.plot(list(values), list(values.values()), style, marker="o", color=color, label=label)
    axes.set(
        xlabel="seconds processed", ylabel="mAP on AudioSet's evaluation clips", xticks=list(values), ylim=(0, None)
    )
    axes.grid(True, linewidth=0.4, color="#dddddd")
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(FOLDER / "delay.png", dpi=110)


def make_paper1(folder: Path, args: argparse.Namespace) -> None:
    """Draw the figures of paper 1 from finished runs; figures 8 and 9 compare systems, and need runs of several."""
    from kerastag.recipes._figures import draw_figures
    from kerastag.recipes._results import read_results

    results = read_results(sorted(path.parent for path in args.paper1_runs.glob("*/*/metrics.json")))
    for dpi in set(PAPER1.values()):
        draw_figures(results, folder / f"{dpi}_dpi", dpi=dpi)
    for name, dpi in PAPER1.items():
        if len(results) == 1 and name in ("paper1_figure_8.png", "paper1_figure_9.png"):
            continue
        shutil.copyfile(folder / f"{dpi}_dpi" / name.removeprefix("paper1_"), FOLDER / name)
        _reduce_colors(FOLDER / name, 12)


def make_page(folder: Path, args: argparse.Namespace) -> None:
    """Take a picture of the page of the server with its example."""
    from serving.browsers import open_browser, open_page
    from serving.servers import run_server

    microphone = _write_recording(folder / "microphone.wav")
    with open_browser(microphone) as browser, run_server("--model", args.model) as server:
        size = {"width": 1200, "height": 900}
        with open_page(browser, server.url, color_scheme="light", reduced_motion="reduce", viewport=size) as page:
            page.click("#example")
            page.wait_for_selector("#tags li", timeout=120_000)
            page.wait_for_timeout(1_000)
            page.screenshot(path=FOLDER / "page.png")
    _reduce_colors(FOLDER / "page.png", 128)


def make_stream(folder: Path, args: argparse.Namespace) -> None:
    """Run `kerastag stream` in a terminal, and draw what it shows over time."""
    recording = _write_recording(folder / "sounds.wav")
    command = ["kerastag", "stream", "--source", recording.name, "--output", "terminal"]
    rules = ["--smoothing-seconds", "1", "--max-gap-seconds", "1"]
    frames = _run_in_terminal([sys.executable, "-m", *command, *rules], folder)
    prompt = [f"$ {' '.join(command)} \\", f"      {' '.join(rules)}"]
    text = _draw_frames([[*prompt, *frame] for frame in frames], 1.0)
    (FOLDER / "stream.svg").write_text(text, encoding="utf-8")


def _run_in_terminal(command: list[str], folder: Path) -> list[list[str]]:
    """Run a command in a terminal, and return the lines that it shows, once per second of audio."""
    import pty

    terminal, end = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **size}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=end, stderr=subprocess.DEVNULL) as process:
        os.close(end)
        output = b""
        while chunk := _read_terminal(terminal):
            output += chunk
    os.close(terminal)
    if process.returncode:
        raise RuntimeError(f"the command ended with status {process.returncode}: {' '.join(command)}")
    frames: dict[str, list[str]] = {}  # by the first line, which is the time
    for part in output.decode("utf-8").split("\x1b[J")[:-1]:
        lines = re.sub(r"\x1b\[\d*[AK]|\r", "", part).rstrip("\n").split("\n")
        frames[lines[0]] = lines
    return list(frames.values())


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other end is closed
        return b""


def _draw_frames(frames: list[list[str]], seconds: float) -> str:
    """Draw the lines of a terminal as an SVG, in which each frame is shown for some seconds."""
    width, height = round(8.43 * COLUMNS + 24), 18 * max(map(len, frames)) + 24
    total = seconds * len(frames)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="14">',
        "<style>text{font-family:ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:#d8dee9}",
        f"g{{visibility:hidden;animation:show {total:g}s step-end infinite}}",
        f"@keyframes show{{0%{{visibility:visible}}{100 / len(frames):.4f}%{{visibility:hidden}}}}",
        "@media(prefers-reduced-motion){g{animation:none}g:last-of-type{visibility:visible}}",
        ".b{fill:#a3be8c}.p{fill:#88c0d0}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#1f2430"/>',
    ]
    for number, lines in enumerate(frames):
        parts.append(f'<g style="animation-delay:{number * seconds:g}s">')
        for row, line in enumerate(lines):
            kind = ' class="b"' if line.startswith("●") else ' class="p"' if line.startswith("$") else ""
            parts.append(f'<text x="12" y="{18 * row + 27}"{kind} xml:space="preserve">{escape(line)}</text>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _reduce_colors(path: Path, colors: int) -> None:
    """Reduce the colors of a picture, which makes its file small."""
    from PIL import Image

    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
    few_colors = rgb.quantize(colors, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few_colors.save(path, optimize=True)


def _write_recording(path: Path) -> Path:
    """Write a recording of synthetic cries of a baby and rain."""
    import numpy as np
    import soundfile
    from sounds import create_cries, create_rain

    rate = 32_000
    waveform = np.zeros(18 * rate, np.float32)
    for start, kind, amount in SOUNDS:
        sound = {"cries": create_cries, "rain": create_rain}[kind](amount, rate)
        waveform[round(start * rate) :][: len(sound)] = sound
    soundfile.write(path, waveform, rate)
    return path


def _run_kerastag(*arguments: object) -> None:
    """Run a command of kerastag, whose output goes to standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kerastag", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)


if __name__ == "__main__":
    sys.exit(main())
