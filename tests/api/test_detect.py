"""`nb.detect` scores given numbers: every detector finds planted errors, and agrees with the methods and libraries it names."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import noisybench as nb
from noisybench.api.detect import INPUTS, detect
from noisybench.audit.detectors.catalog import DETECTORS

SIZE, CLASSES = 240, 3
FRAME_OF_CLASSES = pd.DataFrame(np.eye(2), columns=[1, 2])


def planted():
    """Return inputs of all kinds for 240 examples of three classes, and which labels are incorrect."""
    rng = np.random.default_rng(0)
    clean = np.arange(SIZE) % CLASSES
    is_mislabeled = np.arange(SIZE) % 7 == 0
    labels = np.where(is_mislabeled, (clean + 1) % CLASSES, clean)
    features = (rng.normal(size=(SIZE, 8)) + 5 * np.eye(CLASSES, 8)[clean]).astype(np.float32)
    logits = 4 * np.eye(CLASSES)[clean] + rng.normal(size=(SIZE, CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_label = probabilities[np.arange(SIZE), labels]
    others = logits.copy()
    others[np.arange(SIZE), labels] = -np.inf
    margins = logits[np.arange(SIZE), labels] - others.max(1)
    return {
        "labels": labels,
        "features": features,
        "pred_probs": probabilities,
        "losses": -np.log(of_label) + np.array([[0.1], [0.0]]),
        "margins": np.stack([margins - 1, margins + 1]),
        "correct": np.stack([~is_mislabeled & (np.arange(SIZE) % 5 > 0), ~is_mislabeled, ~is_mislabeled]),
        "gradients": np.where(is_mislabeled, 3, 1)[:, None] * np.random.default_rng(2).normal(size=(6, SIZE, 4)),
        "trust_scores": of_label,
        "attributions": (1 - of_label) ** 2,
    }, is_mislabeled


def needed(name):
    parameters = inspect.signature(DETECTORS[name]).parameters.items()
    return [key for key, value in parameters if value.default is inspect.Parameter.empty]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_planted_errors_and_scores_each_example_by_itself_and_the_others(name):
    given, is_mislabeled = planted()
    inputs = {key: given[key] for key in needed(name)}
    before = {key: value.copy() for key, value in inputs.items()}
    found = nb.detect(name, **inputs)
    assert roc_auc_score(is_mislabeled, found.scores) > 0.9
    assert found.scores.dtype == np.float64
    assert found.scores.shape == (SIZE,)
    if found.flagged is not None:
        assert found.flagged.dtype == bool
        assert found.scores[found.flagged].min() >= np.median(found.scores)
        assert (found.flagged == is_mislabeled).mean() > 0.9
    for key, value in inputs.items():
        np.testing.assert_array_equal(value, before[key])
    if name == "cnlcu":
        everywhere = nb.detect(name, **inputs, selected=np.ones_like(inputs["losses"]))
        np.testing.assert_array_equal(everywhere.scores, found.scores)
    # Another order of the examples gives the same scores in that order.
    order = np.random.default_rng(1).permutation(SIZE)
    axis = {"features": 0, "labels": 0, "pred_probs": 0, "gradients": 1}
    moved = nb.detect(name, **{key: np.take(value, order, axis.get(key, -1)) for key, value in inputs.items()})
    np.testing.assert_allclose(moved.scores, found.scores[order], rtol=1e-4, atol=1e-5)
    # Tensors are read as arrays.
    tensors = nb.detect(name, **{key: torch.from_numpy(value) for key, value in inputs.items()})
    np.testing.assert_allclose(tensors.scores, found.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_help_names_every_detector_and_every_input(name):
    assert f"`{name}`" in inspect.getdoc(detect)
    assert set(needed(name)) <= set(INPUTS) <= set(inspect.signature(detect).parameters)


def test_scores_are_those_of_the_methods_of_the_harness():
    from noisybench.mitigations._scores import error_norms

    given, _ = planted()
    labels, probabilities = given["labels"], given["pred_probs"]
    norms = error_norms(torch.from_numpy(probabilities), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(nb.detect("el2n", labels, pred_probs=probabilities).scores, norms)
    two_networks = np.stack([probabilities, np.full_like(probabilities, 1 / CLASSES)])
    uniform = np.sqrt((2 / 3) ** 2 + 2 / 9)
    np.testing.assert_allclose(nb.detect("el2n", labels, pred_probs=two_networks).scores, (norms + uniform) / 2)


def test_scores_and_flags_are_those_of_cleanlab():
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given, _ = planted()
    labels, probabilities = given["labels"], given["pred_probs"]
    for name, method, as_quality in (
        ("self_confidence", "self_confidence", lambda scores: 1 - scores),
        ("margin", "normalized_margin", lambda scores: (1 - scores) / 2),
        ("entropy", "confidence_weighted_entropy", lambda scores: np.log1p(scores) / scores),
    ):
        quality = get_label_quality_scores(labels, probabilities, method=method)
        ours = nb.detect(name, labels, pred_probs=probabilities).scores
        np.testing.assert_allclose(as_quality(ours), quality, rtol=0, atol=1e-14)
        assert (np.argsort(-ours, kind="stable") == np.argsort(quality, kind="stable")).all(), name
    for name, filter_by in (("confident_joint", "confident_learning"), ("margin", "predicted_neq_given")):
        issues = find_label_issues(labels, probabilities, filter_by=filter_by, n_jobs=1)
        assert (nb.detect(name, labels, pred_probs=probabilities).flagged == issues).all()


def test_the_confident_joint_differs_from_cleanlab_in_what_its_card_says():
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    counts = np.zeros(5, dtype=int)
    for seed in range(3):
        rng, rows = np.random.default_rng(seed), np.arange(600)
        labels = rng.integers(0, 10, 600)
        true = np.where(rng.random(600) < 0.3, rng.integers(0, 10, 600), labels)
        logits = rng.normal(size=(600, 10)) + 2 * np.linspace(0.25, 2.5, 10) * np.eye(10)[true]
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        flagged = nb.detect("confident_joint", labels, pred_probs=probabilities).flagged
        positions = compute_confident_joint(labels, probabilities, return_indices_of_off_diagonals=True)[1]
        is_off_diagonal = np.isin(rows, positions)
        issues = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
        predicted = probabilities.argmax(1)
        reaches = probabilities >= np.array([probabilities[labels == k, k].mean() for k in range(10)])
        # Two classes reach their thresholds, and the most probable class does not.
        is_third = (reaches.sum(1) > 1) & ~reaches[rows, predicted]
        assert (flagged == is_off_diagonal)[~is_third].all()
        assert (issues == flagged & (predicted != labels)).all()
        counts += [flagged.sum(), (flagged & ~issues).sum(), 600, is_third.sum(), (flagged != is_off_diagonal).sum()]
    assert counts.tolist() == [606, 39, 1800, 9, 2]


def test_entropy_ranks_a_certain_prediction_of_another_class_first():
    label_probability = np.array([0.5, 1e-2, 1e-8, 1e-11, 1e-14, 0.0])
    probabilities = np.stack([1 - label_probability, label_probability], axis=1)
    scores = nb.detect("entropy", [1] * 6, pred_probs=probabilities, class_names=2).scores
    assert (np.diff(scores[:5]) > 0).all()
    assert scores[5] > scores[3]
    agreeing = nb.detect("entropy", [0] * 6, pred_probs=probabilities, class_names=2).scores
    assert (np.diff(agreeing[:5]) < 0).all()
    assert agreeing[5] < 1e-9


def test_columns_of_numbers_name_the_classes():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    expected = nb.detect("margin", [0, 1, 1], pred_probs=probabilities).scores
    for columns in ([7, 3], [1, 0], [1, 2]):
        labels = pd.Index(np.array(columns)[[0, 1, 1]])
        frame = pd.DataFrame(probabilities, columns=columns)
        np.testing.assert_array_equal(nb.detect("margin", labels, pred_probs=frame).scores, expected)


def test_the_index_of_given_series_and_frames_is_kept():
    given, _ = planted()
    index = [f"row {number}" for number in range(SIZE)]
    names = np.array(["dog", "cat", "bird"])
    labels = pd.Series(names[given["labels"]], index=index)
    frame = pd.DataFrame(given["pred_probs"], columns=names, index=index)
    found = nb.detect("margin", labels, pred_probs=frame)
    plain = nb.detect("margin", given["labels"], pred_probs=given["pred_probs"])
    assert (found.scores == plain.scores).all()
    table = found.to_frame()
    assert table.index.tolist() == index
    assert table.columns.tolist() == ["score", "flagged"]
    assert table["score"].idxmax() == index[found.ranking[0]]
    assert (np.asarray(found) == table["score"]).all()
    with pytest.raises(nb.UserError, match="labels and pred_probs have different indices; align them"):
        nb.detect("margin", labels.sort_values(), pred_probs=frame)


def test_attributions_of_dattri_find_planted_errors_and_are_those_of_tracin():
    tracin = pytest.importorskip("dattri.algorithm.tracin")
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    given, is_mislabeled = planted()
    points, labels = torch.from_numpy(given["features"]), torch.from_numpy(given["labels"])
    torch.manual_seed(0)
    model = torch.nn.Linear(points.shape[1], CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoints, predictions = [], []
    for _ in range(2):
        for _ in range(25):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(points), labels).backward()
            optimizer.step()
        checkpoints.append({name: weight.clone() for name, weight in model.state_dict().items()})
        predictions.append(model(points).softmax(1).detach())

    def loss(parameters, example):
        inputs, target = example
        logits = torch.func.functional_call(model, parameters, inputs.unsqueeze(0))
        return torch.nn.functional.cross_entropy(logits, target.reshape(1))

    task = AttributionTask(loss_func=loss, model=model, checkpoints=checkpoints)
    attributor = tracin.TracInAttributor(task=task, weight_list=torch.full((2,), 0.5), normalized_grad=False)
    loader = DataLoader(TensorDataset(points, labels), batch_size=60)
    projected = nb.detect("self_influence", attributions=attributor.self_attribute(loader))
    assert roc_auc_score(is_mislabeled, projected.scores) > 0.95
    # By default, the package projects the gradients at random.
    attributor.projector_kwargs = None
    itself = nb.detect("self_influence", attributions=attributor.self_attribute(loader))
    np.testing.assert_allclose(projected.scores, itself.scores, rtol=0.2)
    every_pair = nb.detect("self_influence", attributions=attributor.attribute(loader, loader))
    np.testing.assert_allclose(every_pair.scores, itself.scores, rtol=1e-5)
    # A column of ones stands for the bias.
    with_ones = torch.nn.functional.pad(points, (0, 1), value=1.0)
    ours = nb.detect("tracin", labels, features=with_ones, pred_probs=torch.stack(predictions))
    np.testing.assert_allclose(ours.scores, itself.scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "margins", "labels": [0, 1]}, "unknown detector `margins`; did you mean `margin`"),
        ({"name": "margin", "labels": [0, 1]}, r"margin needs pred_probs: \(N, C\) predicted probabilities"),
        ({"name": "margin", "losses": [0, 1]}, "margin needs labels: .*; what is given suffices for cnlcu, small_loss"),
        (
            {"name": "small_loss", "losses": [0, 1], "features": [[1], [2]]},
            "small_loss does not use features; leave it out, or choose a detector that does: data_oob, deep_knn, fine",
        ),
        (
            {"name": "neighbors", "labels": [0, 1], "features": [[1], [2]], "n": 3},
            "neighbors has no parameter `n`; ",
        ),
        ({"name": "neighbors", "labels": [0, 1], "features": [[1], [2]], "k": 0}, "k must be an integer from 1, but got 0"),
        (
            {"name": "simifeat", "labels": [0, 1], "features": [[1], [2]], "variant": "votes"},
            "unknown variant `votes`; did you mean `vote`",
        ),
        (
            {"name": "cnlcu", "losses": [0, 1], "variant": np.array(["soft", "hard"])},
            "unknown variant .*; known: hard, soft",
        ),
        (
            {"name": "margin", "labels": [0, 1, 1], "pred_probs": [[1, 0], [0, 1]]},
            "the inputs must describe the same examples, but their numbers differ: pred_probs 2, labels 3",
        ),
        ({"name": "margin", "labels": [0, 1], "pred_probs": [[1, 1], [0, 1]]}, "1 of 2 rows are no probabilities"),
        ({"name": "margin", "labels": [0, 1], "pred_probs": [[1, np.nan], [0, 1]]}, "pred_probs: 1 values are not finite"),
        ({"name": "margin", "labels": [0.5, 1], "pred_probs": [[1, 0], [0, 1]]}, "labels"),
        (
            {"name": "margin", "labels": ["a", "b"], "pred_probs": [[1, 0, 0], [0, 1, 0]]},
            "pred_probs has 3 columns, but labels have 2 classes; list all classes in class_names",
        ),
        ({"name": "small_loss", "losses": ["a", "b"]}, "losses: must be .*, but holds other things than numbers"),
        ({"name": "small_loss", "losses": 3.0}, r"losses: must be .*, but has the shape \(\)"),
        (
            {"name": "small_loss", "losses": [0, 1], "selected": [[1, 0]]},
            "small_loss does not use selected; leave it out, or choose a detector that does: cnlcu",
        ),
        ({"name": "cnlcu", "losses": [0, 1], "selected": [[2, 0]]}, "selected: must hold truth values, or 0 and 1"),
        ({"name": "forgetting", "correct": [[0.5, 1], [1, 1]]}, "correct: must hold truth values"),
        ({"name": "self_influence", "attributions": np.ones((2, 3))}, r"attributions: the shape is \(2, 3\)"),
        ({"name": "small_loss", "losses": [1.0]}, "at least two examples are needed"),
        ({"name": "small_loss", "losses": np.ma.array([0, 1], mask=[0, 1])}, "losses has 1 masked entry; remove it"),
        ({"name": "small_loss", "losses": np.array([1j, 2])}, "losses: must be .*, but holds other things than numbers"),
        ({"name": "margin", "labels": [[0], [0, 1]], "pred_probs": np.eye(2)}, "labels has entries of different shapes"),
        ({"name": "margin", "labels": [2, 0], "pred_probs": FRAME_OF_CLASSES}, "`0` of entry 1 is none of the 2 classes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_to_do(arguments, message):
    with pytest.raises(nb.UserError, match=message):
        nb.detect(**arguments)
