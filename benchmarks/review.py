"""A review, simulated with an oracle on ESC-10: labels that it saves, false alarms that it removes, and its speed.

    python benchmarks/review.py labels --recordings ESC10
    python benchmarks/review.py alarms --recordings ESC10 --other FOLDER --measure FOLDER [--output DIR]

`labels`: two labeled clips per class, and 20, 40 and 60 answers about the other clips of four folds, which the review
or chance selects. The accuracy is that of the fifth fold, the mean over seeds, each with another fold.

`alarms`: a tagger learns five classes of ESC-10 from four folds. The oracle answers three rounds of 50 questions about
clips of the other five classes and a half of the recordings of `--other`, none of which has one of the five classes.
After each round the exported files tag the other halves and the recordings of `--measure` as streams, and the held-out
clips of the five classes. Then a stream that plays in real time gets the last head: how long does that take?
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _figures import Table, add_record_flag, print_table

from kerastag._command import prepare_tensorflow
from kerastag.audio import find_audio_files, read_blocks

NUM_INITIAL, NUM_ROUNDS, ROUND_SIZE = 2, 6, 10
NUM_ALARM_ROUNDS, ALARM_ROUND_SIZE = 3, 50
CLIP_SECONDS = 5


def log(line: str) -> None:
    """Write a line to standard error."""
    print(line, file=sys.stderr, flush=True)


def get_class(path: Path) -> str:
    """Return the class of a recording, the name of its folder."""
    return path.parent.name


def answer_all(session: Any, count: int) -> int:
    """Answer questions by the folders of the recordings, and return the number of answers."""
    classes = session.describe()["classes"]
    for number in range(count):
        question = session.describe()["question"]
        if question is None:
            return number
        name = get_class(session.get_part(question["number"]).path)
        value = "yes" if name == question["class"] else f"class:{name}" if name in classes else "no"
        session.answer(question["number"], value)
    return count


def train_and_wait(session: Any) -> dict[str, Any]:
    """Train a head, wait for it, and return the description of the review."""
    session.start_training()
    session.wait()
    description: dict[str, Any] = session.describe()
    if description["error"]:
        raise RuntimeError(description["error"])
    return description


def compare_labels(recordings: Path, model: str, output: Path, num_seeds: int) -> Table:
    """Compare active and random selection of labels with all labels."""
    from kerastag.custom import CustomConfig
    from kerastag.custom.embeddings import load_backbone
    from kerastag.custom.run_inputs import embed_run_clips, load_run_clips
    from kerastag.tagger.presets import fetch_model

    config = CustomConfig(audio_dir=str(recordings), background="none", model=model)
    backbone = load_backbone(fetch_model(model))
    clips, embeddings = embed_run_clips(config, backbone, load_run_clips(config, backbone.card.sample_rate))
    rows: dict[str, list[float]] = {}
    for seed in range(num_seeds):
        bags = embeddings.bags["frames"]
        for name, accuracy in run_seed(replace(config, seeds=(seed,)), clips, bags, seed, output):
            rows.setdefault(name, []).append(accuracy)
            log(f"seed {seed}, {name}: {accuracy:.4f}")
    table = [(name, *(f"{value:.4f}" for value in (*values, np.mean(values)))) for name, values in rows.items()]
    titles = (f"seed {seed}" for seed in range(num_seeds))
    return ("accuracy of the held-out fold", *titles, "mean"), table


def run_seed(
    config: Any, clips: Any, bags: Sequence[np.ndarray], seed: int, output: Path
) -> Iterator[tuple[str, float]]:
    """Yield what heads were trained on, and their accuracy on the fold with the number of the seed."""
    from kerastag.custom.answers import Answer
    from kerastag.custom.head import Bags
    from kerastag.data.audio_lists import Recording
    from kerastag.review.config import ReviewConfig
    from kerastag.review.pool import Pool
    from kerastag.review.retraining import HeadTrainer, get_part
    from kerastag.review.run import ReviewedRun
    from kerastag.review.session import ReviewSession
    from kerastag.training.run_folder import RunFolder

    random = np.random.default_rng(seed)
    test_rows, rows = np.flatnonzero(clips.folds == seed), np.flatnonzero(clips.folds != seed)
    test_bags, labels = (
        Bags.pad([bags[row] for row in test_rows], clips.targets[test_rows]),
        clips.targets.argmax(axis=1),
    )

    def measure(trainer: Any, trained: Any = None) -> float:
        if trained is not None:
            trainer.head.model.set_weights(trained.weights)
        predictions = trainer.head.predict(test_bags, np.arange(len(test_rows)))
        return float((predictions.argmax(axis=1) == labels[test_rows]).mean())

    initial = np.concatenate(
        [random.choice(rows[labels[rows] == k], NUM_INITIAL, replace=False) for k in range(clips.targets.shape[1])]
    )
    others = [row for row in rows if row not in initial]
    parts = [Recording(clips.audio[row].path, "clip", (), end_seconds=float(CLIP_SECONDS)) for row in others]
    pool = Pool(tuple(parts), tuple(bags[row] for row in others))
    thresholds = (0.5,) * clips.targets.shape[1]
    some = replace(clips.select(initial), folds=np.arange(len(initial)) % NUM_INITIAL)
    trainer = HeadTrainer(config, some, [bags[row] for row in initial], pool, thresholds)
    yield f"{len(initial)} labels", measure(trainer, trainer.baseline)
    with tempfile.TemporaryDirectory(dir=output) as folder:
        run = ReviewedRun(RunFolder(Path(folder), "custom", {}), None, trainer)  # type: ignore[arg-type]
        session = ReviewSession(run, ReviewConfig(run=folder, round_size=ROUND_SIZE, train_every=0), lambda line: None)
        for number in range(1, NUM_ROUNDS + 1):
            answer_all(session, ROUND_SIZE)
            train_and_wait(session)
            if number % 2 == 0:
                yield (
                    f"{len(initial) + number * ROUND_SIZE} labels, selected by the review",
                    measure(trainer, session._trained),
                )
        session.close()
    order = random.permutation(len(parts))
    for count in range(2 * ROUND_SIZE, NUM_ROUNDS * ROUND_SIZE + 1, 2 * ROUND_SIZE):
        answers = [Answer(*get_part(parts[i]), clips.class_names[labels[others[i]]], True) for i in order[:count]]
        trained = trainer.train(answers, trainer.baseline)
        yield f"{len(initial) + count} labels, selected by chance", measure(trainer, trained)
    whole = Bags.pad([bags[row] for row in rows], clips.targets[rows])
    trainer.head.train(whole, np.arange(len(rows)), seed)
    yield f"all {len(rows)} labels", measure(trainer)


def compare_alarms(args: argparse.Namespace) -> Table:
    """Count false alarms after each round of answers, in streams that were not reviewed."""
    from kerastag.custom.exported import find_exported
    from kerastag.review import ReviewConfig, open_review

    names = sorted(path.name for path in args.recordings.iterdir() if path.is_dir())
    run_dir = args.output / "run"
    folder, held_out = learn_five(args, run_dir, names[::2])
    clips = [path for name in names[1::2] for path in list_files(args.recordings / name)]
    other = list_files(args.other)[:: args.every]
    reviewed = [*clips[::2], *other[::2]]
    streams = {
        "other halves": [*clips[1::2], *other[1::2]],
        "recordings of --measure": list_files(args.measure)[:: args.every],
    }
    log(f"{len(reviewed)} recordings to review, {', '.join(f'{len(s)} {name}' for name, s in streams.items())}")

    def measure(title: str) -> list[str]:
        exported = find_exported(folder)
        cells = []
        for stream in streams.values():
            count, seconds = count_events(exported, stream)
            cells.append(f"{3600 * count / seconds:.1f} ({count} in {seconds / 60:.0f} min)")
        num_recalled = sum(
            any(get_class(path) == name for name in list_events(exported, [path])[0]) for path in held_out
        )
        log(f"{title}: {cells}, {num_recalled}")
        return [title, *cells, f"{num_recalled / len(held_out):.3f}"]

    config = ReviewConfig(
        run=str(run_dir), recordings=tuple(map(str, reviewed)), round_size=ALARM_ROUND_SIZE, train_every=0
    )
    session = open_review(config, log)
    rows = [measure("before")]
    for number in range(1, NUM_ALARM_ROUNDS + 1):
        count = answer_all(session, ALARM_ROUND_SIZE)
        train_and_wait(session)
        if number < NUM_ALARM_ROUNDS:
            session.start_writing()
            session.wait()
            rows.append(measure(f"after round {number}, of {count} answers"))
        else:
            log(f"from an answer to a stream with the new head: {time_new_head(session, held_out[0]):.1f} s")
            rows.append(measure(f"after round {number}, of {count} answers"))
    print(session.describe()["figures"])
    session.close()
    header = ("", *(f"false alarms per hour, {name}" for name in streams), "share of held-out clips with their event")
    return header, rows


def learn_five(args: argparse.Namespace, run_dir: Path, names: Sequence[str]) -> tuple[Any, list[Path]]:
    """Train a tagger of classes on all folds but the last one, and export it; return its folder and the last fold."""
    from kerastag.card import Card
    from kerastag.custom import CustomConfig, train_custom_tagger
    from kerastag.custom.exported import export_parts
    from kerastag.custom.run_inputs import load_run_clips
    from kerastag.tagger.presets import fetch_model
    from kerastag.training.run_folder import RunFolder

    lines, held_out = ["path,labels,fold"], []
    for name in names:
        for path in list_files(args.recordings / name):
            fold = path.name[0]
            if fold == "5":
                held_out.append(path)
            else:
                lines.append(f"{path.relative_to(args.recordings)},{name},{fold}")
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = CustomConfig(
        audio_dir=str(args.recordings),
        labels=str(args.output / "list.csv"),
        model=args.model,
        folds=4,
        run_dir=str(run_dir),
    )
    train_custom_tagger(config)
    folder = RunFolder.open(run_dir)
    if not folder.exported_head_path.is_file():
        backbone = fetch_model(args.model)
        export_parts(folder, load_run_clips(config, Card.read(backbone).sample_rate).audio)
    return folder, held_out


def list_files(folder: Path) -> list[Path]:
    """List the recordings of a folder, sorted."""
    return [folder / path for path in find_audio_files(folder)]


def list_events(exported: Any, paths: Iterable[Path]) -> tuple[list[str], float]:
    """Tag recordings one after the other as one stream; return the classes of the events, and the duration, seconds."""
    from kerastag.custom.clips import BACKGROUND
    from kerastag.events import EventTracker, create_event_rules, limit_framewise

    tagger = exported.open_stream()
    rules = create_event_rules(tagger.card.event_rules, tagger.card.thresholds)
    tracker = EventTracker(len(tagger.labels), tagger.seconds_per_frame, rules)
    events: list[Any] = []
    seconds = 0.0

    def track(results: Iterable[Any]) -> None:
        for result in results:
            frames = limit_framewise(result.framewise, result.probabilities)
            events.extend(tracker.update(result.framewise_start_seconds, frames))

    for path in paths:
        try:
            for block in read_blocks(path, tagger.sample_rate):
                seconds += len(block) / tagger.sample_rate
                track(tagger.feed(block, tagger.sample_rate))
        except ValueError as error:  # of a recording that no command accepts
            log(f"skipped: {error}")
    track(tagger.flush())
    events += tracker.flush()
    names = [tagger.labels.names[event.class_index] for event in events if event.offset_seconds is not None]
    return [name for name in names if name != BACKGROUND], seconds


def count_events(exported: Any, paths: Iterable[Path]) -> tuple[int, float]:
    """Count the events in recordings, and return their duration too, seconds."""
    names, seconds = list_events(exported, paths)
    return len(names), seconds


def time_new_head(session: Any, recording: Path) -> float:
    """Answer a question, train, write, and return the seconds until a stream in real time uses the new head."""
    from kerastag.custom.exported import find_exported

    exported = find_exported(session.run.folder)
    command = [sys.executable, "-m", "kerastag", "stream", "--model", str(exported.embedder), "--head"]
    command += [str(exported.head), "--watch-head", "--source", "-", "--rate", "32000", "--output", "json:/dev/null"]
    ffmpeg = ["ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(recording), "-f", "s16le"]
    with (
        subprocess.Popen([*ffmpeg, "-ac", "1", "-ar", "32000", "-"], stdout=subprocess.PIPE) as source,
        subprocess.Popen(command, stdin=source.stdout, stderr=subprocess.PIPE, text=True, encoding="utf-8") as stream,
    ):
        changed = threading.Event()

        def watch() -> None:
            assert stream.stderr is not None
            for line in stream.stderr:
                log(line.rstrip())
                if re.search("the new head is in use", line):
                    changed.set()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        time.sleep(5)  # until the stream runs
        start = time.monotonic()
        answer_all(session, 1)
        session.start_training()
        while not session.describe()["has_new_head"]:
            time.sleep(0.05)
        session.start_writing()
        if not changed.wait(120):
            raise RuntimeError("the stream has not taken the new head in 120 s")
        seconds = time.monotonic() - start
        stream.terminate()
        source.terminate()
        thread.join(30)
    session.wait()
    return seconds


def main() -> int:
    """Print the table of one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=("labels", "alarms"))
    parser.add_argument("--recordings", type=Path, required=True, help="Folder of ESC-10, with one folder per class.")
    parser.add_argument("--other", type=Path, help="Folder of recordings without the classes, half of it for review.")
    parser.add_argument("--measure", type=Path, help="Folder of recordings without the classes to measure on.")
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds of `labels` (default: 3).")
    parser.add_argument("--every", type=int, default=4, help="Use every such recording of both (default: 4).")
    parser.add_argument("--model", default="mn04_as", help="Backbone (default: mn04_as).")
    parser.add_argument("--output", type=Path, default=Path("runs/review"), help="Folder for runs.")
    add_record_flag(parser)
    args = parser.parse_args()
    prepare_tensorflow()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.comparison == "labels":
        table = compare_labels(args.recordings, args.model, args.output, args.seeds)
    else:
        table = compare_alarms(args)
    print_table(f"review_{args.comparison}", *table, args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
