"""A trainer of heads on synthetic embeddings, with real recordings, and reviews with it."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from kerastag.card import Card
from kerastag.custom.clips import Clips
from kerastag.custom.config import CustomConfig
from kerastag.data.audio_lists import Recording
from kerastag.labels import LabelSet
from kerastag.review.config import ReviewConfig
from kerastag.review.pool import Pool
from kerastag.training.run_folder import RunFolder

RATE = 8_000
CLASSES = ("Bark", "Rain", "background")
NUM_CLIPS, NUM_PARTS, WRONG_ROW = 24, 12, 5
CENTERS = 4 * np.eye(3, 6)
# Of the parts: four sound almost like barks, four are rain, and four lie between rain and everything else.
PART_CENTERS = [CENTERS[0] + 3 * np.eye(6)[4]] * 4 + [CENTERS[1]] * 4 + [0.5 * (CENTERS[1] + CENTERS[2])] * 4


def draw_bag(random, center, segments):
    return (center + random.standard_normal((segments, 6))).astype(np.float32)


@pytest.fixture(scope="session")
def trainer(tmp_path_factory):
    """Return a trainer with a clip whose label is wrong, and a pool of recordings of a garden."""
    from kerastag.review.retraining import HeadTrainer

    folder, random = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    names = [*((f"{row}.wav", 2) for row in range(NUM_CLIPS)), *((f"garden_{k}.wav", 5) for k in range(NUM_PARTS))]
    for name, seconds in names:
        soundfile.write(folder / name, 0.01 * random.standard_normal(seconds * RATE), RATE)
    labels = np.arange(NUM_CLIPS + 6) % 2
    labels[NUM_CLIPS:] = 2
    bags = [draw_bag(random, CENTERS[label], 2) for label in labels]
    labels[WRONG_ROW] = 1 - labels[WRONG_ROW]
    recordings = [
        Recording(folder / f"{row}.wav", f"{row}.wav", (label,)) for row, label in enumerate(labels[:NUM_CLIPS])
    ]
    folds = np.concatenate([np.arange(NUM_CLIPS) // 2 % 2, np.full(6, -1)])
    targets = np.eye(3, dtype=bool)[labels]
    audio = (*recordings, *[np.zeros(RATE, np.float32)] * 6)
    clips = Clips(str(folder), (), CLASSES, audio, targets, folds, np.ones_like(targets))
    paths = [(folder / f"garden_{k}.wav").resolve() for k in range(NUM_PARTS)]
    parts = tuple(Recording(path, path.name, (), end_seconds=5.0) for path in paths)
    pool = Pool(parts, tuple(draw_bag(random, center, 5) for center in PART_CENTERS))
    options = {"units": 8, "steps": 20, "batch_size": 12, "learning_rate": 0.02}
    # A few answers hardly move the similarity to the clips of a class.
    config = CustomConfig(audio_dir=str(folder), folds=3, linear_similarity=0.0, **options)
    return HeadTrainer(config, clips, bags, pool, (0.5, 0.5, 0.5))


@pytest.fixture
def open_session(trainer, tmp_path):
    """Return a function that opens a review of the trainer in one folder."""
    from kerastag.review.run import ReviewedRun
    from kerastag.review.session import ReviewSession

    card = Card(LabelSet.from_names(CLASSES), RATE, 10.0, 1.0)
    run = ReviewedRun(RunFolder(tmp_path, "custom", {}), SimpleNamespace(card=card), trainer)
    sessions = []

    def open_it(**options):
        config = ReviewConfig(run=str(tmp_path), **{"reviewer": "Ann", "train_every": 0, **options})
        sessions.append(ReviewSession(run, config, lambda line: None))
        return sessions[-1]

    yield open_it
    for session in sessions:
        session.close()


def describe_truth(question):
    """Answer a question as one who knows the synthetic sounds; the barks in the garden are not barks."""
    *place, number = question["file"].removesuffix(".wav").split("_")
    if place:
        name = "Rain" if 4 <= int(number) < 8 else "nothing"
    else:
        name = CLASSES[int(number) % 2]
    if name == question["class"]:
        return "yes"
    return f"class:{name}" if name in CLASSES else "no"
