"""Detectors of mislabeled examples against the code of authors and libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.ensemble import BaggingClassifier
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor, NearestNeighbors
from sklearn.tree import DecisionTreeClassifier
from torch.nn import functional

from noisybench.api.detect import detect
from noisybench.audit.detectors.attributions import tracin
from noisybench.audit.detectors.cnlcu import cnlcu, hard_width, soft_width, truncated_means
from noisybench.audit.detectors.consensus import consensus_transition
from noisybench.audit.detectors.dynamics import aum, forgetting, small_loss, vog
from noisybench.audit.detectors.features import data_oob, fine, left_out_errors, mahalanobis, two_cluster_threshold
from noisybench.audit.detectors.neighbors import deep_knn, least_similar, neighbors, simifeat
from noisybench.audit.detectors.predictions import el2n, posterior
from noisybench.errors import UserError
from tests.golden.generators import data_diet
from tests.golden.vectors import load_golden


def test_alignments_and_selection_are_those_of_fine() -> None:
    golden = load_golden("fine")
    found = fine(labels=golden["labels"], features=golden["features"])
    np.testing.assert_allclose(-found.scores, golden["scores"], rtol=0, atol=2e-6)
    assert found.flagged is not None
    np.testing.assert_array_equal(found.flagged, ~golden["kept"])


def test_a_label_of_one_example_and_equal_features_are_never_flagged() -> None:
    features = np.array([[1, 2], [1, 2], [1, 2], [0, 0]], dtype=np.float32)
    found = fine(labels=np.array([0, 0, 0, 5]), features=features)
    assert found.flagged is not None
    assert not found.flagged.any()
    np.testing.assert_allclose(found.scores, [-1, -1, -1, 0], atol=1e-12)


def test_votes_consensus_and_selections_are_those_of_simifeat() -> None:
    golden = load_golden("simifeat")
    labels, features = golden["labels"], golden["features"]
    voted = simifeat(labels=labels, features=features, variant="vote")
    np.testing.assert_allclose(1 - voted.scores, golden["votes"][np.arange(len(labels)), labels], rtol=0, atol=2e-6)
    np.testing.assert_allclose(-np.log(1 - voted.scores + 1e-8), golden["scores"], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(voted.flagged, golden["mv"])
    nearest = NearestNeighbors(n_neighbors=3, metric="cosine").fit(features).kneighbors(features)[1]
    # The code of the authors makes one update fewer than its number of steps.
    transition, classes = consensus_transition(labels[nearest], 4, steps=19)
    np.testing.assert_allclose(transition, golden["transition"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(classes, golden["classes"], rtol=0, atol=1e-6)
    flagged = least_similar(voted.scores, labels, np.diag(transition) * classes)
    np.testing.assert_array_equal(flagged, golden["rank1"])
    transition, classes = consensus_transition(labels[nearest], 4)
    np.testing.assert_allclose(transition, golden["transition_400"], rtol=0, atol=0.01)
    ranked = simifeat(labels=labels, features=features)
    np.testing.assert_array_equal(ranked.scores, voted.scores)
    np.testing.assert_array_equal(ranked.flagged, least_similar(voted.scores, labels, np.diag(transition) * classes))


def test_votes_of_deep_knn_are_those_of_a_library_on_its_own_training_set() -> None:
    rng = np.random.default_rng(0)
    clean = np.arange(120) % 4
    features = (1000 + np.eye(4, 5)[clean] + 0.4 * rng.normal(size=(120, 5))).astype(np.float32)
    labels = np.where(rng.random(120) < 0.3, rng.integers(0, 4, 120), clean)
    ties = []
    for k in (1, 7, 25):
        library = KNeighborsClassifier(k, algorithm="brute").fit(features.astype(np.float64), labels)
        shares = library.predict_proba(features.astype(np.float64))
        own, others = shares[np.arange(120), labels], shares.copy()
        others[np.arange(120), labels] = -1
        found = deep_knn(labels=labels, features=features, k=k)
        np.testing.assert_allclose(found.scores, others.max(1) - own, rtol=0, atol=1e-15)
        tied = np.isclose(others.max(1), own)
        assert found.flagged is not None
        np.testing.assert_array_equal(found.flagged[~tied], (shares.argmax(1) != labels)[~tied])
        assert not found.flagged[tied].any()
        ties.append(int(tied.sum()))
    assert ties == [0, 9, 2]
    one_class = deep_knn(labels=np.zeros(3, dtype=np.int64), features=features[:3])
    np.testing.assert_array_equal(one_class.scores, -1)


def test_simifeat_needs_three_examples_to_rank_and_two_to_vote() -> None:
    points, labels = np.array([[1, 0], [1, 1]], dtype=np.float32), np.array([0, 2])
    with pytest.raises(UserError, match="there are 2 examples; give three or more, or set variant=vote"):
        simifeat(labels=labels, features=points)
    for k in (1, 2, 10):
        voted = simifeat(labels=labels, features=points, k=k, variant="vote")
        np.testing.assert_allclose(voted.scores, 0 if k == 1 else 1 - np.sqrt(0.5), atol=1e-7)
        assert voted.flagged is not None
        assert not voted.flagged.any()
    opposite = simifeat(labels=labels, features=points * np.array([[1], [-1]], dtype=np.float32), variant="vote")
    assert np.isfinite(opposite.scores).all()


def test_simifeat_never_flags_a_label_that_no_neighbor_contradicts() -> None:
    rng, clean = np.random.default_rng(0), np.arange(90) % 3
    features = (np.eye(3)[clean] + 0.01 * rng.random((90, 3))).astype(np.float32)
    labels = np.where(np.arange(90) < 9, (clean + 1) % 3, clean)
    for observed, points, least, most in (
        (clean, features, 0, 0),
        (labels, features, 8, 20),
        (labels, 0 * features, 0, 0),
    ):
        ranked = simifeat(labels=observed, features=points)
        assert ranked.flagged is not None
        assert not ranked.flagged[ranked.scores == 0].any()
        assert least <= ranked.flagged.sum() <= most
        assert (ranked.flagged & (observed != clean)).sum() >= least


def test_means_and_bounds_are_those_of_cnlcu() -> None:
    golden = load_golden("cnlcu")
    losses, counts = golden["losses"].astype(np.float64), golden["counts"]
    epochs, size = losses.shape
    every_epoch = np.full(size, epochs + 1.0)
    # The code of the authors counts a loss of 0 before the first epoch.
    means = cnlcu(losses=losses).scores + soft_width(epochs, every_epoch)
    np.testing.assert_allclose(means * epochs / (epochs + 1), golden["soft_means"], rtol=0, atol=5e-7)
    np.testing.assert_allclose(soft_width(epochs, counts + 1), golden["soft_means"] - golden["soft"], rtol=0, atol=1e-7)
    # Its hard truncation takes the other losses for the outliers, and 1.414 for the root of 2.
    with_zero = np.concatenate([np.zeros((1, size)), losses])
    means, outliers = truncated_means(with_zero)
    np.testing.assert_array_equal(epochs + 1 - outliers, golden["hard_counts"])
    left_out = (with_zero.sum(0) - means * (epochs + 1 - outliers)) / (epochs + 1)
    np.testing.assert_allclose(left_out, golden["hard_means"], rtol=0, atol=5e-7)
    width = hard_width(epochs, counts, golden["hard_counts"])
    np.testing.assert_allclose(width, golden["hard_means"] - golden["hard"], rtol=1.5e-4)
    means, outliers = truncated_means(losses)
    found = cnlcu(losses=losses, variant="hard")
    np.testing.assert_allclose(found.scores, means - hard_width(epochs, every_epoch, outliers))
    assert found.flagged is None


def test_outliers_of_cnlcu_are_those_of_a_library_and_rare_selections_lower_the_score() -> None:
    rng = np.random.default_rng(0)
    for epochs in (5, 12):
        losses = rng.exponential(size=(epochs, 30))
        means, outliers = truncated_means(losses)
        for example in range(30):
            library = LocalOutlierFactor(n_neighbors=2, contamination=0.1)
            kept = library.fit_predict(losses[:, [example]]) == 1
            assert outliers[example] == epochs - kept.sum()
            np.testing.assert_allclose(means[example], losses[kept, example].mean())
    equal, selected = np.ones((6, 3)), np.arange(6)[:, None] >= np.array([0, 3, 6])
    for variant in ("soft", "hard"):
        scores = cnlcu(losses=equal, selected=selected, variant=variant).scores
        assert scores[0] > scores[1] > scores[2] > 0
        one_epoch = cnlcu(losses=np.array([1.0, 2.0]), variant=variant).scores
        np.testing.assert_allclose(one_epoch, cnlcu(losses=np.array([[1.0, 2.0]]), variant=variant).scores)
    with pytest.raises(UserError, match=r"selected: the shape is \(5, 3\), but that of the losses is \(6, 3\)"):
        cnlcu(losses=equal, selected=selected[1:])


def test_scores_are_those_of_vog() -> None:
    golden = load_golden("vog")
    gradients, labels = golden["gradients"], golden["labels"]
    np.testing.assert_allclose(gradients.std(0).mean(1), golden["raw"], rtol=1e-12)
    found = vog(labels=labels, gradients=gradients)
    np.testing.assert_allclose(found.scores, golden["normalized"], rtol=0, atol=1e-12)
    images = vog(labels=labels, gradients=gradients.reshape(15, 50, 1, 2, 1))
    np.testing.assert_array_equal(images.scores, found.scores)
    equal = vog(labels=np.array([0, 0, 0, 1]), gradients=np.array([[[0.1]] * 4, [[0.2]] * 4]))
    np.testing.assert_array_equal(equal.scores, 0)
    with pytest.raises(UserError, match="variances need at least two checkpoints, but there is one"):
        vog(labels=labels, gradients=gradients[:1])


def test_scores_of_training_dynamics_are_the_authors() -> None:
    golden = load_golden("aum")
    logits, labels = golden["logits"].astype(np.float64), golden["labels"]
    rows, others = np.arange(len(labels)), logits.copy()
    others[:, rows, labels] = -np.inf
    found = aum(margins=logits[:, rows, labels] - others.max(2))
    np.testing.assert_allclose(-found.scores, golden["areas"], rtol=0, atol=2e-7)

    golden = load_golden("forgetting")
    networks = [forgetting(correct=correct).scores for correct in golden["correct"]]
    np.testing.assert_array_equal(sum(networks), golden["counts"])

    golden = load_golden("dividemix")
    observed = golden.tensor("observed")
    losses = np.stack(
        [functional.cross_entropy(scores, observed, reduction="none").double() for scores in golden.tensor("scores")]
    )
    posteriors, means = golden["posteriors"]
    for epoch, expected in enumerate(posteriors):
        given = losses[epoch]
        np.testing.assert_allclose(small_loss(losses=given).scores, 1 - expected, rtol=0, atol=2e-7)
        np.testing.assert_array_equal(small_loss(losses=given).flagged, expected < 0.5)
    # The authors scale the losses of each epoch before they average the last five.
    differing = [(small_loss(losses=losses[end - 5 : end]).flagged != (means[end - 1] < 0.5)).sum() for end in (5, 6)]
    assert differing == [0, 2]


def test_error_norms_are_those_of_the_authors_of_el2n() -> None:
    inputs, labels = data_diet.examples()
    probabilities = data_diet.network()(inputs).softmax(1).detach().double().numpy()
    norms = load_golden("data_diet")["el2n"]
    found = el2n(labels=labels.numpy(), pred_probs=probabilities)
    np.testing.assert_allclose(found.scores, norms, rtol=0, atol=1e-12)


def test_distances_are_those_by_the_moments_of_robust_generative_classifiers() -> None:
    golden = load_golden("mahalanobis")
    points, labels = golden["points"], golden["targets"]
    offsets = points[:, None].astype(np.float64) - golden["empirical_means"]
    distances = np.einsum("ncd,de,nce->nc", offsets, golden["empirical_precision"], offsets)
    of_label, others = distances[np.arange(len(labels)), labels], distances.copy()
    others[np.arange(len(labels)), labels] = np.inf
    found = mahalanobis(labels=labels, features=points)
    np.testing.assert_allclose(found.scores, of_label - others.min(1), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.flagged, distances.argmin(1) != labels)


def test_shares_of_neighbors_are_those_of_a_library() -> None:
    rng, clean = np.random.default_rng(0), np.arange(120) % 4
    features = (rng.normal(size=(120, 6)) + 2 * np.eye(4, 6)[clean]).astype(np.float32)
    labels = np.where(rng.random(120) < 0.3, rng.integers(0, 4, 120), clean)
    for k in (1, 7, 20):
        library = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(features.astype(np.float64))
        shares = (labels[library.kneighbors()[1]] != labels[:, None]).mean(1)
        found = neighbors(labels=labels, features=features, k=k)
        np.testing.assert_allclose(found.scores, shares, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(found.flagged, shares > 0.5)


@pytest.mark.parametrize(("seed", "difference", "flags"), [(0, 0.023, 0), (1, 0.051, 0), (2, 0.6, 4)])
def test_posteriors_are_near_those_of_the_largest_likelihood(seed: int, difference: float, flags: int) -> None:
    rng, clean, rows = np.random.default_rng(seed), np.arange(300) % 3, np.arange(300)
    labels = np.where(rng.random(300) < 0.2, (clean + 1) % 3, clean)
    scores = log_softmax(rng.normal(size=(300, 3)) + 2.5 * np.eye(3)[clean], axis=1)

    def joint(values: NDArray[np.float64]) -> NDArray[np.float64]:
        transition = softmax(values[4:].reshape(3, 3), axis=1)
        return np.asarray(softmax(values[0] * scores + values[1:4], axis=1) * transition[:, labels].T)

    def cost(values: NDArray[np.float64]) -> float:
        return float(-np.log(joint(values).sum(1)).mean())

    start = np.concatenate([[1, 0, 0, 0], 3 * np.eye(3).ravel()])
    best = joint(minimize(cost, start, method="BFGS", options={"maxiter": 500}).x)
    expected = best[rows, labels] / best.sum(1)
    found = posterior(labels=labels, pred_probs=np.exp(scores))
    of_label = np.exp(-found.scores - scores[rows, labels] / 2)
    np.testing.assert_allclose(of_label, expected, rtol=0, atol=difference)
    assert found.flagged is not None
    assert (found.flagged != (expected < 0.5)).sum() == flags
    assert found.flagged.sum() > 50


def test_trust_scores_are_those_of_a_detector_of_mislabeled() -> None:
    golden = load_golden("mislabeled")
    labels, features = golden["labels"], golden["features"]

    def scores(_: object, X: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
        np.testing.assert_array_equal(X, features)
        np.testing.assert_array_equal(y, labels)
        return golden["scores"]

    # The package is not in the package index; what stands in for it has the methods that its detectors have.
    detector = type("SmallLoss", (), dict.fromkeys(golden["methods"].tolist(), scores))()
    found = detect("trust", labels, features=features, trust_scores=detector)
    np.testing.assert_array_equal(found.scores, -golden["scores"])
    assert found.flagged is None
    with pytest.raises(UserError, match=r"SmallLoss.trust_score\(X, y\) is called with features and labels; pass both"):
        detect("trust", labels, trust_scores=detector)
    with pytest.raises(UserError, match=r"or a detector with a method trust_score\(X, y\)"):
        detect("trust", labels, trust_scores=object())


def test_influences_of_tracin_are_squared_gradients_of_the_last_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(7, 4, generator=generator), torch.arange(7) % 3
    influences, predictions = torch.zeros(7), []
    for checkpoint in torch.randn(5, 3, 4, generator=generator):
        weight = checkpoint.clone().requires_grad_()
        for row in range(7):
            loss = torch.nn.functional.cross_entropy(points[row : row + 1] @ weight.T, labels[row : row + 1])
            influences[row] += torch.autograd.grad(loss, weight)[0].square().sum() / 5
        predictions.append((points @ checkpoint.T).softmax(1))
    found = tracin(labels=labels.numpy(), features=points.numpy(), pred_probs=torch.stack(predictions).double().numpy())
    np.testing.assert_allclose(found.scores, influences, rtol=1e-5)
    assert found.flagged is None


def test_values_are_those_of_the_authors_of_data_oob() -> None:
    golden = load_golden("dataoob")
    trees = zip(golden["samples"], golden["predicted"], strict=True)
    errors = left_out_errors(
        golden["labels"], [(np.flatnonzero(sample == 0), row[sample == 0]) for sample, row in trees]
    )
    np.testing.assert_allclose(errors, 1 - golden["values"], rtol=0, atol=1e-15)


def test_scores_of_data_oob_are_out_of_bag_errors_of_a_library() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 3 * 2
    order = np.lexsort((labels, *points.T))
    bagging = BaggingClassifier(DecisionTreeClassifier(), n_estimators=50, oob_score=True, random_state=3)
    bagging.fit(points[order], labels[order])
    expected = np.zeros(60)
    expected[order] = 1 - bagging.oob_decision_function_[np.arange(60), labels[order] // 2]
    found = data_oob(labels=labels, features=points, trees=50, seed=3)
    np.testing.assert_allclose(found.scores, expected, atol=1e-12)
    few = data_oob(labels=labels, features=points, trees=1).scores
    assert set(np.unique(few)) - {0.0, 1.0} == {few[(few > 0) & (few < 1)][0]}, (
        "examples in all samples share one score"
    )


@given(st.lists(st.integers(0, 50), min_size=2, max_size=9))
def test_the_threshold_divides_into_the_best_two_clusters(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=float)
    threshold = two_cluster_threshold(values)
    if values.min() == values.max():
        assert threshold == -np.inf
        return

    def spread(cut: float) -> float:
        parts = (values[values < cut], values[values >= cut])
        return float(sum(((part - part.mean()) ** 2).sum() for part in parts))

    cuts = [(low + high) / 2 for low, high in zip(np.unique(values)[:-1], np.unique(values)[1:], strict=True)]
    assert np.isclose(spread(threshold), min(map(spread, cuts)), atol=1e-9)
