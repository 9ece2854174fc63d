"""Bag space: clips compared as a whole by the Hausdorff distance (section IV-B and equation 11 of paper 1).

    D(A, B) = min over segments x of A, y of B of |x - y|

It is used in k-nearest neighbors over all training clips, or in a support vector machine. The paper describes both and
evaluates neither. k, and C of the machine, are chosen on held-out training clips, never on `eval`.

D does not give a positive kernel: exp(-gamma * D) of real clips has negative eigenvalues, so the objective of a kernel
machine on it would have no minimum. Here the features of a clip are its similarities to landmark clips (the empirical
kernel map), reduced to their principal components, and there is one linear machine per class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kerastag.data.batches import scale
from kerastag.data.hausdorff import compute_hausdorff_distances
from kerastag.data.splits import hold_out
from kerastag.metrics.classification import compute_metrics
from kerastag.recipes._recipe import Recipe
from kerastag.recipes._synthetic import run_without_baseline
from kerastag.training.config import RunConfig
from kerastag.training.run_data import RunData

_BLOCK_ROWS = 1024  # clips whose distances to all others are in memory at a time
_MAX_LANDMARKS = 5000


@dataclass(frozen=True, kw_only=True)
class BagConfig(RunConfig):
    """Configuration of bag-space tagging.

    Args:
        method: `neighbors` (k-nearest neighbors) or `svm` (linear machines on similarities to landmarks).
        selection_share: Fraction of the training clips that is held out to choose k or C, in (0, 1).
        neighbors: Values of k to choose from.
        costs: Values of C to choose from.
        landmarks: Number of training clips that are landmarks, 1 to 5,000.
        components: Number of principal components of the similarities.
        selection_classes: Number of the most frequent classes on which C is chosen.
        jobs: Number of processes that fit machines.
    """

    method: Literal["neighbors", "svm"] = "neighbors"
    selection_share: float = 0.1
    neighbors: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
    costs: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    landmarks: int = _MAX_LANDMARKS
    components: int = 256
    selection_classes: int = 40
    jobs: int = 1


def compute_scores(config: BagConfig, data: RunData) -> dict[str, Any]:
    """Score the clips to evaluate on, with the k or C that is best on held-out training clips."""
    train = Bags.from_rows(*data.train.rows(data.train_rows))
    evaluation = Bags.from_rows(*data.evaluation.rows(data.evaluation_rows))
    scores, chosen = fit_predict(train, evaluation, config)
    return {"scores": scores, "chosen": chosen}


@dataclass(frozen=True, eq=False)
class Bags:
    """Clips as bags of segments.

    Attributes:
        embeddings: Float32 `(clips, segments, features)`.
        mask: Which segments are valid, bool `(clips, segments)`.
        targets: Labels, bool `(clips, classes)`.
    """

    embeddings: NDArray[np.float32]
    mask: NDArray[np.bool_]
    targets: NDArray[np.bool_]

    @classmethod
    def from_rows(cls, x: NDArray[Any], num_segments: NDArray[Any], targets: NDArray[np.bool_]) -> Self:
        """Convert rows of a pack, with the embeddings scaled as for every model."""
        return cls(scale(x, num_segments), np.arange(x.shape[1]) < num_segments[:, None], targets)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(self.embeddings[rows], self.mask[rows], self.targets[rows])


def compute_distances(queries: Bags, bags: Bags) -> NDArray[np.float32]:
    """Compute the Hausdorff distances `(queries, bags)`."""
    return compute_hausdorff_distances(queries.embeddings, bags.embeddings, queries.mask, bags.mask)


def fit_predict(train: Bags, evaluation: Bags, config: BagConfig) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Fit the tagger to training clips and score other clips.

    Args:
        train: Training clips.
        evaluation: Clips to score, whose targets are not used.
        config: Method, and the values to choose from.

    Returns:
        Scores `(clips, classes)`, higher for likelier classes, and the chosen k or C.

    Raises:
        ValueError: A value is out of range, or too large for the number of clips.

    >>> from kerastag.data.synthetic_features import make_synthetic_features
    >>> clips = [make_synthetic_features(n, num_classes=4, split=s) for n, s in ((300, "bal_train"), (50, "eval"))]
    >>> train, evaluation = (Bags.from_rows(c.x, c.num_segments, c.targets) for c in clips)
    >>> scores, chosen = fit_predict(train, evaluation, BagConfig(neighbors=(5, 20)))
    >>> scores.shape, chosen["k"] in (5, 20)
    ((50, 4), True)

    Reference: Kong et al., 2019, section IV-B. Deviation: the machine takes similarities to landmarks, see above.
    """
    if not 0 < config.selection_share < 1:
        raise ValueError(f"`selection_share` must be above 0 and below 1; received: {config.selection_share}")
    known, held_out = hold_out(train.targets, config.selection_share)
    if config.method == "neighbors":
        k = _choose_k(train[held_out], train[known], config.neighbors)
        return dict(score_by_neighbors(evaluation, train, [k]))[k], {"k": k}
    if config.method == "svm":
        return _svm(train, evaluation, known, held_out, config)
    raise ValueError(f"`method` must be neighbors or svm; received: {config.method!r}")


def score_by_neighbors(queries: Bags, bags: Bags, counts: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Score queries by the fraction of each class among their k nearest bags, weighted by 1 / D.

    The scores are those of scikit-learn's `KNeighborsClassifier(metric="precomputed", weights="distance")`, without its
    full distance matrix.

    Yields:
        k and the scores `(queries, classes)`, for each k of `counts` in ascending order.
    """
    counts = sorted(set(counts))
    if not counts or counts[0] < 1 or counts[-1] > len(bags):
        raise ValueError(f"`neighbors` must be 1 to {len(bags)}, the number of training clips; received: {counts}")
    nearest, weights = _find_nearest(queries, bags, counts[-1])
    votes = np.zeros((len(queries), bags.targets.shape[1]))
    for i in range(counts[-1]):
        votes += weights[:, i, None] * bags.targets[nearest[:, i]]
        if i + 1 in counts:
            yield i + 1, votes / weights[:, : i + 1].sum(axis=1, keepdims=True)


def _find_nearest(queries: Bags, bags: Bags, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the k nearest bags of each query: their indices `(queries, k)` in ascending distance, and 1 / distance."""
    nearest = np.empty((len(queries), k), np.int64)
    weights = np.empty((len(queries), k))
    for start in range(0, len(queries), _BLOCK_ROWS):
        block = compute_distances(queries[start : start + _BLOCK_ROWS], bags)
        rows = slice(start, start + len(block))
        candidates = np.argpartition(block, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(block, candidates, axis=1), axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(candidates, order, axis=1)
        # Two copies of a recording have distance 0: its weight exceeds all others, but stays finite.
        weights[rows] = 1 / np.maximum(np.take_along_axis(block, nearest[rows], axis=1), 1e-6)
    return nearest, weights


def _choose_k(held_out: Bags, known: Bags, counts: Sequence[int]) -> int:
    metrics = {
        k: compute_metrics(held_out.targets, scores).map for k, scores in score_by_neighbors(held_out, known, counts)
    }
    return max(metrics, key=lambda k: metrics[k])


def _svm(
    clips: Bags, queries: Bags, known: NDArray[np.int64], held_out: NDArray[np.int64], config: BagConfig
) -> tuple[NDArray[np.float64], dict[str, float]]:
    from sklearn.decomposition import PCA

    if not 1 <= config.landmarks <= _MAX_LANDMARKS:
        raise ValueError(f"`landmarks` must be 1 to {_MAX_LANDMARKS}; received: {config.landmarks}")
    rng = np.random.default_rng([config.seed, 1])
    landmarks = clips[np.sort(rng.permutation(known)[: config.landmarks])]
    similarities, gamma = _similarities(clips, landmarks)
    components = min(config.components, len(landmarks), len(clips))
    reduce = PCA(components, svd_solver="randomized", random_state=config.seed, whiten=False).fit(similarities[known])
    # One scale for all components, so that C has the same meaning for any gamma and any number of landmarks.
    scale = np.sqrt(reduce.explained_variance_.sum())
    features = reduce.transform(similarities) / scale
    frequent = np.argsort(-clips.targets.sum(axis=0), kind="stable")[: config.selection_classes]
    metrics = {}
    for cost in config.costs:
        machine = _LinearMachines(cost, config.jobs).fit(features[known], clips.targets[known][:, frequent])
        metrics[cost] = compute_metrics(clips.targets[held_out][:, frequent], machine.score(features[held_out])).map
    cost = max(metrics, key=lambda value: metrics[value])
    machines = _LinearMachines(cost, config.jobs).fit(features, clips.targets)
    scores = machines.score(reduce.transform(_similarities(queries, landmarks, gamma)[0]) / scale)
    return scores, {"C": cost, "gamma": gamma}


def _similarities(queries: Bags, landmarks: Bags, gamma: float | None = None) -> tuple[NDArray[np.float32], float]:
    """Compute exp(-gamma * D), `(queries, landmarks)`, and gamma: 1 / median distance by default."""
    rows = range(0, len(queries), _BLOCK_ROWS)
    distances = np.concatenate([compute_distances(queries[start : start + _BLOCK_ROWS], landmarks) for start in rows])
    gamma = gamma if gamma is not None else float(1 / np.median(distances[:_BLOCK_ROWS]))
    return np.exp(np.multiply(distances, -gamma, out=distances), out=distances), gamma


class _LinearMachines:
    """One linear support vector machine per class; a class that is always or never present has a constant score."""

    def __init__(self, cost: float, jobs: int) -> None:
        self.cost, self.jobs = cost, jobs

    def fit(self, features: NDArray[Any], targets: NDArray[np.bool_]) -> Self:
        from joblib import Parallel, delayed

        self.weights = np.stack(
            Parallel(n_jobs=self.jobs)(delayed(_fit_one)(features, column, self.cost) for column in targets.T), axis=1
        )  # (features + 1, classes)
        return self

    def score(self, features: NDArray[Any]) -> NDArray[np.float64]:
        return features @ self.weights[:-1] + self.weights[-1]


def _fit_one(features: NDArray[Any], is_positive: NDArray[np.bool_], cost: float) -> NDArray[np.float64]:
    from sklearn.svm import LinearSVC

    if is_positive.all() or not is_positive.any():
        return np.append(np.zeros(features.shape[1]), 1.0 if is_positive.all() else -1.0)
    machine = LinearSVC(C=cost, dual=False, tol=1e-2).fit(features, is_positive)
    return np.append(machine.coef_[0], machine.intercept_[0])


RECIPE = Recipe("bag_neighbors", __doc__, "scores", BagConfig, run_without_baseline, compute_scores=compute_scores)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
