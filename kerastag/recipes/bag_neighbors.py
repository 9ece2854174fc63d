"""Bag space: clips compared as a whole by the Hausdorff distance (paper 1, section IV-B, eq. 11).

    D(A, B) = min over segments x of A, y of B of |x - y|

plugged into k-nearest neighbors over all training clips, or into a support vector machine. The paper describes
both and measures neither. k, and the machine's C, are chosen on held-out training clips, never on `eval`.

D is no positive kernel: exp(-gamma * D) of real clips has negative eigenvalues, so a kernel machine on it would
have no minimum to find. Here a clip's similarities to landmark clips are its features (the empirical kernel map),
reduced to their principal components, for one linear machine a class.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kerastag.data.batches import scale
from kerastag.data.hausdorff import hausdorff_distances
from kerastag.data.sampler import hold_out
from kerastag.metrics import compute_metrics
from kerastag.recipes._data import Data
from kerastag.recipes._run import figures_of, main_without_network
from kerastag.training.settings import RunSettings

_ROWS = 1024  # clips whose distances to all others are held at a time
_MOST_LANDMARKS = 5000


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Settings of bag-space tagging.

    Args:
        method: `neighbors` (k-nearest neighbors) or `svm` (linear machines on similarities to landmarks).
        selection_share: share of the training clips that is held out to choose k or C on, in (0, 1).
        neighbors: values of k to choose from.
        costs: values of C to choose from.
        landmarks: training clips that serve as landmarks, 1 to 5,000.
        components: principal components of the similarities that the machines see.
        selection_classes: C is chosen on this many of the most frequent classes.
        jobs: processes that fit machines.
    """

    method: Literal["neighbors", "svm"] = "neighbors"
    selection_share: float = 0.1
    neighbors: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
    costs: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    landmarks: int = _MOST_LANDMARKS
    components: int = 256
    selection_classes: int = 40
    jobs: int = 1


def tag_and_measure(settings: Settings, data: Data) -> dict[str, Any]:
    """Clips -> the figures of the bag-space tagger, with the k or C that held-out training clips chose."""
    train = Bags.of(*data.train.rows(data.train_rows))
    evaluation = Bags.of(*data.evaluation.rows(data.evaluation_rows))
    scores, chosen = fit_predict(train, evaluation, settings)
    return {"ensemble": figures_of(data, scores), "chosen": chosen}


def main(argv: Sequence[str] | None = None) -> int:
    return main_without_network(Settings, tag_and_measure, "bag_neighbors", argv)


@dataclass(frozen=True, eq=False)
class Bags:
    """Clips as float32 embeddings (clips, segments, features), the mask of their valid segments, their targets."""

    embeddings: NDArray[np.float32]
    mask: NDArray[np.bool_]
    targets: NDArray[np.bool_]

    @classmethod
    def of(cls, x: NDArray[Any], num_segments: NDArray[Any], targets: NDArray[np.bool_]) -> Self:
        """Rows of a pack -> bags, with embeddings as every model here sees them."""
        return cls(scale(x, num_segments), np.arange(x.shape[1]) < num_segments[:, None], targets)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(self.embeddings[rows], self.mask[rows], self.targets[rows])


def distances(queries: Bags, bags: Bags) -> NDArray[np.float32]:
    """Hausdorff distances (queries, bags)."""
    return hausdorff_distances(queries.embeddings, bags.embeddings, queries.mask, bags.mask)


def fit_predict(train: Bags, evaluation: Bags, settings: Settings) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Turns training clips and clips to tag into scores and the values that held-out clips chose.

    Args:
        train: clips to learn from.
        evaluation: clips to score; their targets are not looked at.
        settings: which method, and what to choose from.

    Returns:
        (clips, classes) scores, greater means likelier; the chosen k or C.

    Raises:
        ValueError: a setting is outside its range or too great for the clips there are.

    >>> from kerastag.data.synthetic import synthetic_features
    >>> train, evaluation = (
    ...     Bags.of(clips.x, clips.num_segments, clips.targets)
    ...     for clips in (synthetic_features(300, num_classes=4), synthetic_features(50, num_classes=4, split="eval"))
    ... )
    >>> scores, chosen = fit_predict(train, evaluation, Settings(neighbors=(5, 20)))
    >>> scores.shape, chosen["k"] in (5, 20)
    ((50, 4), True)

    Reference: Kong et al., 2019, section IV-B. Deviation: the machine sees similarities to landmarks, see above.
    """
    if not 0 < settings.selection_share < 1:
        raise ValueError(f"`selection_share` must be above 0 and below 1, received {settings.selection_share}")
    known, held_out = hold_out(train.targets, settings.selection_share)
    if settings.method == "neighbors":
        k = _choose_k(train[held_out], train[known], settings.neighbors)
        return dict(neighbor_scores(evaluation, train, [k]))[k], {"k": k}
    if settings.method == "svm":
        return _svm(train, evaluation, known, held_out, settings)
    raise ValueError(f"`method` must be neighbors or svm, received {settings.method!r}")


def neighbor_scores(queries: Bags, bags: Bags, counts: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Turns queries into the share of each class among their k nearest bags, nearer ones weighing more (1 / D).

    What scikit-learn's `KNeighborsClassifier(metric="precomputed", weights="distance")` gives, without its full
    distance matrix and its list of an array a class. Yields (k, scores) for each k of `counts`, ascending.
    """
    counts = sorted(set(counts))
    if not counts or counts[0] < 1 or counts[-1] > len(bags):
        raise ValueError(f"`neighbors` must be 1 to {len(bags)}, the training clips, received {counts}")
    nearest, weights = _nearest(queries, bags, counts[-1])
    votes = np.zeros((len(queries), bags.targets.shape[1]))
    for i in range(counts[-1]):
        votes += weights[:, i, None] * bags.targets[nearest[:, i]]
        if i + 1 in counts:
            yield i + 1, votes / weights[:, : i + 1].sum(axis=1, keepdims=True)


def _nearest(queries: Bags, bags: Bags, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(queries, k) indices of the nearest bags in ascending distance, and 1 / distance."""
    nearest = np.empty((len(queries), k), np.int64)
    weights = np.empty((len(queries), k))
    for start in range(0, len(queries), _ROWS):
        block = distances(queries[start : start + _ROWS], bags)
        rows = slice(start, start + len(block))
        candidates = np.argpartition(block, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(block, candidates, axis=1), axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(candidates, order, axis=1)
        # The same recording twice has distance 0: it outweighs all others, and stays finite.
        weights[rows] = 1 / np.maximum(np.take_along_axis(block, nearest[rows], axis=1), 1e-6)
    return nearest, weights


def _choose_k(held_out: Bags, known: Bags, counts: Sequence[int]) -> int:
    figures = {
        k: compute_metrics(held_out.targets, scores).map for k, scores in neighbor_scores(held_out, known, counts)
    }
    return max(figures, key=lambda k: figures[k])


def _svm(
    clips: Bags, queries: Bags, known: NDArray[np.int64], held_out: NDArray[np.int64], settings: Settings
) -> tuple[NDArray[np.float64], dict[str, float]]:
    from sklearn.decomposition import PCA

    if not 1 <= settings.landmarks <= _MOST_LANDMARKS:
        raise ValueError(f"`landmarks` must be 1 to {_MOST_LANDMARKS}, received {settings.landmarks}")
    rng = np.random.default_rng([settings.seed, 1])
    landmarks = clips[np.sort(rng.permutation(known)[: settings.landmarks])]
    similarities, gamma = _similarities(clips, landmarks)
    components = min(settings.components, len(landmarks), len(clips))
    reduce = PCA(components, svd_solver="randomized", random_state=settings.seed, whiten=False).fit(similarities[known])
    # One scale for all components: C then means the same for any gamma and any number of landmarks.
    scale = np.sqrt(reduce.explained_variance_.sum())
    features = reduce.transform(similarities) / scale
    frequent = np.argsort(-clips.targets.sum(axis=0), kind="stable")[: settings.selection_classes]
    figures = {}
    for cost in settings.costs:
        machine = _Machines(cost, settings.jobs).fit(features[known], clips.targets[known][:, frequent])
        figures[cost] = compute_metrics(clips.targets[held_out][:, frequent], machine.scores(features[held_out])).map
    cost = max(figures, key=lambda value: figures[value])
    machines = _Machines(cost, settings.jobs).fit(features, clips.targets)
    scores = machines.scores(reduce.transform(_similarities(queries, landmarks, gamma)[0]) / scale)
    return scores, {"C": cost, "gamma": gamma}


def _similarities(queries: Bags, landmarks: Bags, gamma: float | None = None) -> tuple[NDArray[np.float32], float]:
    """(queries, landmarks) exp(-gamma * D) and gamma, which is 1 / median distance where it is not given."""
    rows = range(0, len(queries), _ROWS)
    found = np.concatenate([distances(queries[start : start + _ROWS], landmarks) for start in rows])
    gamma = gamma if gamma is not None else float(1 / np.median(found[:_ROWS]))
    return np.exp(np.multiply(found, -gamma, out=found), out=found), gamma


class _Machines:
    """One linear support vector machine a class; a class that is always or never there scores a constant."""

    def __init__(self, cost: float, jobs: int) -> None:
        self.cost, self.jobs = cost, jobs

    def fit(self, features: NDArray[Any], targets: NDArray[np.bool_]) -> Self:
        from joblib import Parallel, delayed

        self.weights = np.stack(
            Parallel(n_jobs=self.jobs)(delayed(_fit_one)(features, column, self.cost) for column in targets.T), axis=1
        )  # (features + 1, classes)
        return self

    def scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        return features @ self.weights[:-1] + self.weights[-1]


def _fit_one(features: NDArray[Any], is_positive: NDArray[np.bool_], cost: float) -> NDArray[np.float64]:
    from sklearn.svm import LinearSVC

    if is_positive.all() or not is_positive.any():
        return np.append(np.zeros(features.shape[1]), 1.0 if is_positive.all() else -1.0)
    machine = LinearSVC(C=cost, dual=False, tol=1e-2).fit(features, is_positive)
    return np.append(machine.coef_[0], machine.intercept_[0])


if __name__ == "__main__":
    sys.exit(main())
