"""The `kerastag` command: one thin subcommand a verb. Each imports what it needs when it runs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kerastag import __version__
from kerastag._command import prepare_tensorflow


def main(argv: Sequence[str] | None = None) -> int:
    """Arguments -> the exit status; an error is one line on standard error."""
    prepare_tensorflow()
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print(f"kerastag {arguments.verb}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if arguments.debug:
            raise
        print(f"kerastag {arguments.verb}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kerastag", description="Weakly labeled audio tagging.")
    parser.add_argument("--version", action="version", version=f"kerastag {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_first = _add_tag, _add_import, _add_pack, _add_scenes, _add_fetch, _add_evaluate
    for add in (*add_first, _add_when, _add_export, _add_stream):
        add(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def _add_tag(verbs: Any) -> None:
    parser = _verb(verbs, "tag", _tag, "recordings -> the sounds in them")
    parser.add_argument("recordings", nargs="+", metavar="FILE", help="audio files, folders, or - for standard input")
    parser.add_argument(
        "--model",
        help="a .keras or .tflite file, or a name, such as mn04_as (default: esc10, ten sounds, in the package)",
    )
    parser.add_argument("--top", type=int, default=5, help="how many tags at most (default: 5)")
    parser.add_argument("--threshold", type=float, default=0.0, help="least probability of a tag (default: 0)")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--timeline", action="store_true", help="say when each tag sounds, too")
    parser.add_argument("--plot", metavar="PNG", help="draw log-mel and tags over time, of one recording")
    parser.add_argument(
        "--pooling", choices=("max", "mean"), default="max", help="over the windows of a long recording (default: max)"
    )


def _tag(arguments: argparse.Namespace) -> None:
    from kerastag.bundled import BUNDLED_MODEL
    from kerastag.tagger.reports import tag_recordings

    names = ("top", "threshold", "format", "timeline", "plot", "pooling")
    options = {name: getattr(arguments, name) for name in names}
    if arguments.model is None:
        print(f"kerastag tag: by {BUNDLED_MODEL}, which knows ten sounds; --model mn04_as knows 527", file=sys.stderr)
    if tag_recordings(arguments.recordings, arguments.model or BUNDLED_MODEL, **options):
        sys.exit(1)  # each of them has had its line


def _add_import(verbs: Any) -> None:
    whats = verbs.add_parser("import", help="other people's weights -> a .keras file").add_subparsers(
        dest="what", required=True, metavar="WHAT"
    )
    for what, text in (
        ("panns", "PANNs' CNN10 or ResNet38 (.pth) -> a .keras file"),
        ("efficientat", "EfficientAT's MN (.pt) -> a .keras file"),
        ("vggish", "VGGish's TensorFlow checkpoint and PCA -> a .keras file"),
    ):
        parser = _verb(whats, what, _import, text)
        parser.add_argument("file", metavar="FILE", help="the checkpoint, as downloaded")
        parser.add_argument("--output", required=True, metavar="MODEL.keras", help="the file to write")
        if what == "vggish":
            parser.add_argument("--pca", metavar="NPZ", help="vggish_pca_params.npz (default: fetched)")
        else:
            parser.add_argument("--labels", metavar="CSV", help="class list (default: AudioSet's)")


def _import(arguments: argparse.Namespace) -> None:
    if arguments.what == "vggish":
        from kerastag.fetch import fetch
        from kerastag.importers.vggish import import_vggish

        print(import_vggish(arguments.file, arguments.pca or fetch("vggish_pca"), arguments.output))
        return
    from importlib import import_module

    from kerastag.labels import LabelSet

    labels = None if arguments.labels is None else LabelSet.from_csv(arguments.labels)
    reader = import_module(f"kerastag.importers.{arguments.what}")
    print(getattr(reader, f"import_{arguments.what}")(arguments.file, arguments.output, labels=labels))


def _add_pack(verbs: Any) -> None:
    whats = verbs.add_parser("pack", help="write packs, the files that training reads").add_subparsers(
        dest="what", required=True, metavar="WHAT"
    )
    parser = _verb(whats, "features", _pack_features, "AudioSet's feature files -> one HDF5 pack a split")
    parser.add_argument("--source", required=True, help="features.tar.gz as downloaded, or the unpacked folder")
    parser.add_argument("--output", required=True, help="folder for bal_train.h5, unbal_train.h5, eval.h5")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these; otherwise all that are there")
    parser.add_argument("--skip_corrupt", action="store_true", help="leave out damaged records, count and name them")
    parser = _verb(whats, "audio", _pack_audio, "labeled recordings -> one HDF5 pack of 16-bit waveforms")
    parser.add_argument("--audio_dir", required=True, help="folder/class/*.ogg, or where the paths of --labels begin")
    parser.add_argument("--labels", help="CSV of path,labels, or AudioSet's segment list over clips named by YTID")
    parser.add_argument("--classes", help="class list that fixes the classes and their order")
    parser.add_argument("--separator", help="between the labels of a cell; otherwise ; or |")
    parser.add_argument("--output", required=True, help="the pack, such as bal_train.h5")
    parser.add_argument("--sample_rate", type=int, default=32_000, help="Hz, of what is stored (%(default)s)")
    parser.add_argument("--clip_seconds", type=float, default=10.0, help="length of a stored clip (%(default)s)")
    parser.add_argument(
        "--skip_corrupt", action="store_true", help="leave out files that cannot be read, and name them"
    )


def _pack_features(arguments: argparse.Namespace) -> None:
    from kerastag.data.tfrecord import pack_features

    reports = pack_features(
        arguments.source, arguments.output, splits=arguments.splits, skip_corrupt=arguments.skip_corrupt
    )
    for report in reports.values():
        print(report)
        for left_out in report.skipped:
            print(f"left out: {left_out}", file=sys.stderr)


def _pack_audio(arguments: argparse.Namespace) -> None:
    from kerastag.data.audio_lists import read_audio_list
    from kerastag.data.audio_pack import pack_audio
    from kerastag.labels import LabelSet

    classes = LabelSet.from_csv(arguments.classes) if arguments.classes else None
    clips = read_audio_list(arguments.audio_dir, arguments.labels, classes=classes, separator=arguments.separator)
    report = pack_audio(
        clips,
        arguments.output,
        sample_rate=arguments.sample_rate,
        clip_seconds=arguments.clip_seconds,
        skip_corrupt=arguments.skip_corrupt,
    )
    print(report)
    for what, names in (("missing", report.missing), ("left out", report.skipped)):
        for name in names:
            print(f"{what}: {name}", file=sys.stderr)


def _add_scenes(verbs: Any) -> None:
    parser = _verb(verbs, "scenes", _scenes, "recordings of single sounds -> weakly labeled scenes with a truth")
    parser.add_argument("--audio_dir", help="folder/class/*.ogg, or where the paths of --labels begin")
    parser.add_argument("--synthetic", action="store_true", help="mix five classes of synthesized sounds instead")
    parser.add_argument("--output", required=True, help="folder for SPLIT.h5, a pack, and SPLIT.tsv, its events")
    parser.add_argument("--labels", help="CSV of path,labels and perhaps fold")
    parser.add_argument("--classes", help="class list that fixes the classes and their order")
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME=FOLDS[:SHARE%]",
        help="which recordings a split takes, once a split: bal_train=1,2,3,4 or valid=1,2:10%% or eval=20%%; folds "
        "are the CSV's, or stand before the first - of a file name (otherwise bal_train=80%% and eval=20%%)",
    )
    parser.add_argument("--count", nargs="+", default=[], metavar="[NAME=]N", help="scenes a split (1000)")
    parser.add_argument("--seed", type=int, default=0, help="scenes are the same for the same seed (%(default)s)")
    parser.add_argument("--sample_rate", type=int, default=32_000, help="Hz, of what is stored (%(default)s)")
    parser.add_argument("--background_dir", help="recordings to sound behind; otherwise noise, pink to brown")
    parser.add_argument("--audio", action="store_true", help="write SPLIT/NAME.wav too")
    parser.add_argument("--jams", action="store_true", help="write SPLIT/NAME.jams too")
    parser.add_argument(
        "--skip_corrupt", action="store_true", help="leave out recordings that cannot be read or are silent"
    )
    parser.add_argument("--scene_seconds", type=float, help="length of a scene (10)")
    parser.add_argument("--min_events", type=int, help="fewest events of a scene (1)")
    parser.add_argument("--max_events", type=int, help="most events of a scene (4)")
    parser.add_argument("--max_event_seconds", type=float, help="longer sounds are cut (5)")
    parser.add_argument("--max_overlap", type=int, help="most events that sound at once (3)")
    parser.add_argument("--snr_db", type=float, nargs=2, metavar=("LOW", "HIGH"), help="over the background (0 20)")
    parser.add_argument("--background_db", type=float, nargs=2, metavar=("LOW", "HIGH"), help="its level (-55 -35)")


def _scenes(arguments: argparse.Namespace) -> None:
    from kerastag.cli.make_soundscapes import write_scenes_as_asked

    for report in write_scenes_as_asked(arguments):
        print(report)


def _add_fetch(verbs: Any) -> None:
    parser = _verb(verbs, "fetch", _fetch, "a public file -> kerastag's cache folder")
    parser.add_argument("name", nargs="?", help="which file; without it, the list of them")
    parser.add_argument("--from", dest="from_file", metavar="FILE", help="take a copy that you already have")


def _fetch(arguments: argparse.Namespace) -> None:
    from kerastag import fetch

    if arguments.name is None:
        for name, file in fetch.FILES.items():
            print(f"{name:26} {file.base_url}{file.file_name}")
        return
    print(fetch.fetch(arguments.name, from_file=arguments.from_file))


def _add_evaluate(verbs: Any) -> None:
    parser = _verb(verbs, "evaluate", _evaluate, "finished runs -> their figures, measured again from their files")
    parser.add_argument("run_folders", metavar="RUN", nargs="+", help="a run's folder; of several, their mean too")
    parser.add_argument("--data_dir", help="folder of packs, when it is no longer where the run found it")


def _evaluate(arguments: argparse.Namespace) -> None:
    from kerastag.recipes.evaluate import evaluate, evaluate_together

    if len(arguments.run_folders) == 1:
        evaluate(arguments.run_folders[0], arguments.data_dir)
    else:
        evaluate_together(arguments.run_folders, arguments.data_dir)


def _add_export(verbs: Any) -> None:
    parser = _verb(verbs, "export", _export, "a model -> a file for a device or a server, measured against Keras")
    parser.add_argument("model", metavar="MODEL|RUN", help="a .keras file, a name of public weights, or a run's folder")
    parser.add_argument("--target", required=True, metavar="NAME", help="a name out of export/targets, or a TOML file")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .tflite file, or the SavedModel's folder")
    parser.add_argument(
        "--segment_seconds",
        type=float,
        metavar="S",
        help="write the embedder alone, of segments so long: what `stream` hears with before a --head",
    )
    parser.add_argument("--evaluation", metavar="DIR|PACK", help="clips on which mAP is measured before and after")
    parser.add_argument(
        "--representative", metavar="DIR|PACK", help="recordings that set the ranges of the targets int8 and int16x8"
    )


def _export(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from kerastag.export.target import read_target

    target = read_target(arguments.target)  # before a framework loads
    from kerastag.export.export import export
    from kerastag.tagger import model_file

    model = Path(arguments.model) if Path(arguments.model).is_dir() else model_file(arguments.model)
    report = export(
        model,
        target,
        arguments.output,
        segment_seconds=arguments.segment_seconds,
        evaluation=arguments.evaluation,
        recordings=arguments.representative,
    )
    print(report.table())


def _add_stream(verbs: Any) -> None:
    from kerastag.cli.stream import add_flags, stream

    add_flags(_verb(verbs, "stream", stream, "live audio -> the sounds in it, as they come"))


def _add_when(verbs: Any) -> None:
    text = "a tagger over clips with a truth -> how well it says when each class sounds"
    parser = _verb(verbs, "when", _when, text)
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file, or predictions (.npz)")
    parser.add_argument("--pack", required=True, metavar="EVAL.h5", help="the clips to measure on")
    parser.add_argument("--events", metavar="TSV", help="filename onset offset event_label (default: beside the pack)")
    thresholds = parser.add_mutually_exclusive_group()
    thresholds.add_argument("--tune", metavar="VALID.h5", help="choose thresholds on this other pack and its events")
    thresholds.add_argument("--threshold", type=float, help="one for all classes (default: the card's)")
    parser.add_argument("--by", choices=("event", "segment"), default="event", help="which F1 --tune looks at")
    parser.add_argument("--smoothing_seconds", type=float, default=0.0, help="median filter (%(default)s)")
    parser.add_argument("--min_seconds", type=float, default=0.0, help="shortest event (%(default)s)")
    parser.add_argument("--max_gap_seconds", type=float, default=0.0, help="longest pause in an event (%(default)s)")
    parser.add_argument(
        "--sub_clip_seconds", type=float, help="of the sub-clips that MODEL chooses, if it does not say"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")


def _when(arguments: argparse.Namespace) -> None:
    from kerastag.cli.score_events import measure_when

    print(measure_when(arguments))


if __name__ == "__main__":
    sys.exit(main())
