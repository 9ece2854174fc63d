"""Where the local stream listened, against where the events are."""

from typing import Any

import numpy as np

from kerastag.recipes._data import Data
from kerastag.recipes._run import SystemSettings


def localized(settings: SystemSettings, data: Data, model: Any) -> dict[str, Any]:
    """A two-stream model, and clips beside whose packs a table of events lies -> `localization` of its windows.

    Nothing where there is no such table, as beside packs of AudioSet.
    """
    if not data.has_events:
        return {}
    from kerastag.metrics import localization

    start_seconds, classes = chosen_windows(settings, data, model)
    cut = model.get_layer("select")
    duration_seconds = data.train.x_shape[1] / data.train.packs[0].sample_rate
    found = localization(data.events(), start_seconds, classes, cut.sub_clip_seconds, duration_seconds)
    return {"localization": found.as_dict()}


def chosen_windows(settings: SystemSettings, data: Data, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """A two-stream model over the clips to measure on -> where its windows begin and whose they are, `(clips, N)`."""
    import keras

    from kerastag.training.evaluation import predict

    # Of these two outputs: the local stream does not run.
    choosing = keras.Model(model.input, [model.output[name] for name in ("start_seconds", "classes")])
    found = predict(choosing, data.evaluation, data.evaluation_rows, settings.prediction_batch_size)
    return found[0], found[1].astype(int)
