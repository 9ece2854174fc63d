"""Classes whose recordings are close to each other."""

import numpy as np
import pytest

from kerastag.custom import look_alikes
from kerastag.custom.look_alikes import Neighbors, find_neighbors, rank_look_alikes


@pytest.mark.parametrize("block_rows", [3, 1024])
def test_neighbors_are_the_most_similar_clips(monkeypatch, block_rows):
    monkeypatch.setattr(look_alikes, "_BLOCK_ROWS", block_rows)
    random = np.random.default_rng(0)
    embeddings, targets = random.normal(size=(10, 4)), random.random((10, 3)) < 0.4
    targets[9] = False
    neighbors = find_neighbors(embeddings, targets)
    x = (embeddings - embeddings.mean(axis=0)) / embeddings.std(axis=0)
    for i in range(10):
        similarities = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in range(10)]
        others = [j for j in range(10) if j != i and not (targets[i] & targets[j]).any()]
        own = [j for j in range(10) if j != i and (targets[i] & targets[j]).any()]
        assert neighbors.rows[i] == max(others, key=lambda j: similarities[j])
        assert neighbors.similarities[i] == pytest.approx(max(similarities[j] for j in others), abs=1e-5)
        assert neighbors.own_similarities[i] == pytest.approx(max([similarities[j] for j in own], default=-1), abs=1e-5)


def test_clips_of_one_class_have_no_neighbor():
    neighbors = find_neighbors(np.eye(3), np.ones((3, 1), bool))
    assert neighbors.rows.tolist() == [-1, -1, -1]
    assert rank_look_alikes(neighbors, np.ones((3, 1), bool)) == []


def test_classes_that_share_a_region_are_ranked_first():
    random = np.random.default_rng(2)
    targets = np.eye(4, dtype=bool)[np.arange(80) % 4]
    centers = np.array([[0, 0, 0, 4], [0, 0, 0, 4], [4, 0, 0, 0], [0, 4, 0, 0]])  # the first two are one
    embeddings = centers[np.arange(80) % 4] + 0.3 * random.normal(size=(80, 4))
    (pair,) = rank_look_alikes(find_neighbors(embeddings, targets), targets)
    assert pair.classes == (0, 1)
    assert pair.total == 40
    assert pair.count >= 10
    assert len(pair.pairs) == 3
    assert all({row % 4, neighbor % 4} == {0, 1} for row, neighbor in pair.pairs)


def test_a_pair_of_clips_is_listed_once():
    targets = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
    neighbors = Neighbors(np.array([1, 0, 3, 2]), np.array([0.9, 0.9, 0.2, 0.2]), np.array([0.1, 0.1, 0.5, 0.5]))
    (pair,) = rank_look_alikes(neighbors, targets)
    assert (pair.count, pair.total, pair.pairs) == (2, 4, ((0, 1),))
