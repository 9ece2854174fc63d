"""Your own sounds: a folder of labeled recordings -> a tagger of them, on top of a pretrained network.

A pretrained backbone embeds every recording; feature-level attention, `h_j = sum over segments of q(x)_j u(x)_j` (Kong
et al., 2019, eq. 20 to 24), learns the classes from the bags of embeddings. Cross-validation measures it, beside a
logistic regression on whole-clip embeddings; a last training on all clips gives `model.keras`, from waveform to tags.
With bags of seconds it gives `embedder.keras` and `head.keras` too, of which a device runs each second once.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kerastag import fetch
from kerastag.custom.background import background_clips
from kerastag.data.audio_lists import read_audio_list
from kerastag.data.splits import assign_folds
from kerastag.recipes._command import command
from kerastag.recipes._run import open_run


@dataclass(kw_only=True)
class Settings:
    """Settings of a tagger of one's own sounds.

    Args:
        audio_dir: folder with one folder a class, or where the paths of `labels` begin.
        labels: CSV with the columns `path,labels` and perhaps `fold`.
        model: `.keras` file with its card, or the name of published weights.
        folds: of the cross-validation, at least 3; 0 for none, and thresholds from the clips that were trained on.
        fold_pattern: regular expression on file names whose first group says the fold. Without it and without a
            column `fold`: the first number of names like ESC's (`1-100032-A.ogg`), or else folds that share out every
            class, with files of one stem before the last `-` or `_` kept together.
        seeds: of the trainings; figures are given for each.
        segments: what a bag is made of: output frames of one pass, seconds (what `kerastag stream --head` needs), or
            whichever is better on held-out training clips.
        background: a class for everything else: `made_up` silence and faint noise, a folder of recordings, or `none`.
        max_seconds: how much of a longer recording is heard.
        fine_tune: then train the backbone too, end to end.
        run_dir: folder of the run; without one `runs/custom/seed_SEED`.
        units: width of the head.
        depth: hidden layers before attention.
        dropout: share of units dropped.
        steps: mini-batches to train the head on.
        batch_size: clips a mini-batch.
        learning_rate: of the head, at its highest.
        mixup: alpha of mixup of embeddings; 0 for none.
        fine_tune_steps: mini-batches of the end-to-end training.
        fine_tune_batch_size: clips of each.
        fine_tune_learning_rate: at its highest.
    """

    audio_dir: str
    labels: str | None = None
    model: str = "mn04_as"
    folds: int = 5
    fold_pattern: str | None = None
    seeds: tuple[int, ...] = (0,)
    segments: Literal["best", "frames", "seconds"] = "best"
    background: str = "made_up"
    max_seconds: float = 30.0
    fine_tune: bool = False
    run_dir: str | None = None
    units: int = 256
    depth: int = 0
    dropout: float = 0.5
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    mixup: float = 0.0
    fine_tune_steps: int = 100
    fine_tune_batch_size: int = 16
    fine_tune_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("units", "steps", "batch_size", "fine_tune_steps", "fine_tune_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, received {getattr(self, name)}")
        for name in ("learning_rate", "fine_tune_learning_rate", "max_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be above 0, received {getattr(self, name)}")
        if self.folds in (1, 2) or self.folds < 0:
            raise ValueError(f"`folds` must be 0 or at least 3, received {self.folds}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"`seeds` must be at least one number, none negative, received {self.seeds}")

    @property
    def seed(self) -> int:
        return self.seeds[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a run's `settings.json`."""
        return {**asdict(self), "seeds": list(self.seeds)}


def main(argv: Sequence[str] | None = None) -> int:
    return command(Settings, run, "custom", argv)


def run(settings: Settings) -> None:
    """Settings -> a run folder with `model.keras` and perhaps its two parts, table, class report and confusion."""
    from kerastag.custom.embed import embed, load_backbone
    from kerastag.custom.report import write_report
    from kerastag.custom.study import Study
    from kerastag.training.devices import deterministic

    deterministic()
    clips = read_audio_list(settings.audio_dir, settings.labels)
    if clips.missing:
        print(f"missing: {len(clips.missing)} recordings: {', '.join(clips.missing)}", file=sys.stderr)
    folds = assign_folds(clips, settings.folds, pattern=settings.fold_pattern, seed=settings.seed)
    folder = open_run(settings, "custom")
    started = time.perf_counter()
    backbone = load_backbone(settings.model)
    background = background_clips(settings.background, backbone.card.sample_rate, settings.max_seconds)
    cache = fetch.get_cache_folder() / "embeddings"
    embedded = embed(backbone, clips, background, settings.max_seconds, cache)
    embedding_seconds = time.perf_counter() - started
    study = Study(settings, clips, folds, backbone, embedded, len(background))
    found = study.cross_validate()
    thresholds = study.save(folder, found)
    found |= {"embedding_seconds": embedding_seconds, "seconds": time.perf_counter() - started}
    write_report(folder, study, found, thresholds)


if __name__ == "__main__":
    sys.exit(main())
