"""Random events with probabilities that follow them, and their scores by public libraries."""

import numpy as np

from kerastag.metrics import EventTable

SECONDS_PER_FRAME, CLIP_SECONDS = 0.2, 10.0


def make_problem(seed: int) -> tuple[EventTable, np.ndarray]:
    """Return the events of 30 clips of 4 classes, and probabilities in steps of 0.05 that follow them roughly."""
    random = np.random.default_rng(seed)
    clips, frames, classes = 30, 50, 4
    rows = []
    framewise = np.zeros((clips, frames, classes))
    for i in range(clips):
        for k in range(classes):
            if random.random() < 0.5:
                onset = round(random.uniform(0, 8), 3)
                offset = round(onset + random.uniform(0.3, min(4, 9.99 - onset)), 3)
                rows.append((i, k, onset, offset))
                framewise[i, int(onset / 0.2) : int(offset / 0.2) + 1, k] += random.uniform(0.2, 0.8)
    slow = 0.25 * np.abs(random.standard_normal((clips, frames // 5, classes))).repeat(5, axis=1)
    framewise = np.clip(framewise + slow + 0.1 * random.random((clips, frames, classes)), 0, 1)
    return EventTable.from_rows(rows, clips, classes), np.round(framewise * 20) / 20


# Scores of sed_scores_eval 0.0.4 for scenario 1, scenario 2 and (0.5, 0.5, 0.3, 1, 0, 400). Those of psds_eval 0.5.3
# are the same except the last one of seed 1, where a share equals a tolerance up to rounding.
PSDS = {
    0: (0.14769988257614533, 0.25664458137170726, 0.5238440149009582),
    1: (0.08733572840237713, 0.39188479327106635, 0.5562162835610771),
    2: (0.19176890725428153, 0.5112740315652742, 0.5721588534602708),
}
# Scores of sed_eval 0.2.1 for events at or above 0.55 of at least 0.4 s: micro F1, macro F1, precision, recall.
SEGMENT_F1 = {
    0: (0.7584415584415585, 0.7525376088294926, 0.73, 0.7891891891891892),
    1: (0.7034883720930232, 0.6874879574410091, 0.6436170212765957, 0.7756410256410257),
}
EVENT_F1 = {
    0: (0.38823529411764707, 0.39180464681949667, 0.2972972972972973, 0.559322033898305),
    1: (0.3488372093023256, 0.34229624973811024, 0.2542372881355932, 0.5555555555555556),
}
