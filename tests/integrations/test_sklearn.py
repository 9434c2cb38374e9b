"""`nb.RobustClassifier` keeps scikit-learn's contract, and trains to the numbers of the harness."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import noisybench as nb
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset, Split
from noisybench.integrations.sklearn import RobustClassifier
from noisybench.runs.preparation import prepare_run
from noisybench.runs.training import train

REFUSED = {
    "adele", "cdr", "clslsr", "co_teaching", "co_teaching_plus", "cores2_star", "dice_loss", "disc", "early_stopping",
    "jocor", "lora",
    "lsa", "mahalanobis", "mean_teacher", "meta_weight_net", "noise_robust_dice", "noise_weighted_dice",
    "oracle_pruning", "pencil", "pes",
    "pes_semi", "pixel_confident_learning", "pls", "promix",
    "self_consistency", "simclr", "sop_plus", "spectral_truncation", "t_loss", "t_revision", "trace_filter",
    "trimmed_loss", "trinet",
}  # fmt: skip
"""Mitigations that cannot train a linear classifier of six features with the first of their test cases."""

SMALL = {"network": "mlp:16", "epochs": 4}


# Without exclusions: every check of scikit-learn holds.
@parametrize_with_checks([RobustClassifier(**SMALL)])
def test_every_check_of_scikit_learn_holds(estimator, check):
    check(estimator)


def blobs(count=150):
    points, labels = make_blobs(count, centers=3, n_features=6, cluster_std=3.0, random_state=0)
    return points.astype(np.float32), np.where(np.arange(count) % 5 == 0, (labels + 1) % 3, labels)


def harness_probabilities(folder, raw, dataset=None):
    """Return the probabilities that a run of the harness gives its test split."""
    recorder = train(
        prepare_run(resolve(raw), dataset), folder, lambda rows: None, lambda kind, event: None, lambda: False
    )
    return recorder.evaluator._test_probabilities, [row.train_loss for row in recorder.rows if row.stage == "train"]


@pytest.mark.parametrize(
    "stack",
    [
        "mixup+gce",
        "dividemix(warmup_epochs=1)",
        "co_teaching(forget_rate=0.2)+mahalanobis",
        "el2n(epochs=1, keep_fraction=0.8)+elr",
    ],
)
@pytest.mark.filterwarnings("ignore:(dividemix|co_teaching|el2n)")
def test_feature_vectors_give_the_numbers_of_a_run_of_the_harness(stack, tmp_path):
    points, labels = blobs()
    np.savez(
        tmp_path / "features.npz", train_x=points[:120], train_y=labels[:120], id_x=points[120:], id_y=labels[120:]
    )
    raw = {
        "task": "transfer",
        "dataset": {"name": "features", "path": str(tmp_path / "features.npz"), "validation_fraction": 0.0},
        "mitigations": stack,
        "budget": {"network": "features_mlp:16", "epochs": 3, "batch_size": 32, "learning_rate": 0.01, "momentum": 0.8},
        "seed": 5,
        "execution": {"device": "cpu"},
    }  # fmt: skip
    expected, losses = harness_probabilities(tmp_path / "run", raw)
    classifier = RobustClassifier(
        stack, network="mlp:16", epochs=3, batch_size=32, learning_rate=0.01, budget={"momentum": 0.8}, standardize=False,
        device="cpu", random_state=5,
    ).fit(points[:120], labels[:120])  # fmt: skip
    assert classifier.loss_curve_ == losses
    np.testing.assert_allclose(classifier.predict_proba(points[120:]), expected, rtol=1e-6)


def test_images_give_the_numbers_of_a_run_of_the_harness(tmp_path):
    digits = load_digits(n_class=3)
    images, labels = (digits.images * 15).astype(np.uint8), digits.target
    splits = [
        Split(images[rows, None], labels[rows], np.arange(len(labels))[rows])
        for rows in (slice(100), slice(0), slice(100, 150))
    ]
    raw = {
        "mitigations": "gce",
        "budget": {"network": "small_cnn", "epochs": 2, "batch_size": 32, "augmentation": "crop"},
        "execution": {"device": "cpu"},
    }
    dataset = Dataset("digits", *splits, ("0", "1", "2"), source_size=len(labels))
    expected, losses = harness_probabilities(tmp_path / "run", raw, dataset)
    options = {"network": "small_cnn", "epochs": 2, "batch_size": 32, "augmentation": "crop", "device": "cpu"}
    classifier = RobustClassifier("gce", **options).fit(images[:100], labels[:100])
    assert classifier.loss_curve_ == losses
    np.testing.assert_allclose(classifier.predict_proba(images[100:150]), expected, rtol=1e-6)
    # Tensors with a channel axis are the same images.
    again = RobustClassifier("gce", **options).fit(torch.from_numpy(images[:100, None]), torch.from_numpy(labels[:100]))
    assert (again.predict_proba(images[100:150]) == classifier.predict_proba(images[100:150])).all()
    assert classifier.n_features_in_ == 64
    with pytest.raises(
        ValueError, match=r"X has images of the shape \(1, 4, 4\), but RobustClassifier is expecting \(1, 8, 8\)"
    ):
        classifier.predict(images[:5, :4, :4])


@pytest.mark.parametrize("name", list(list_entries("mitigations")))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_mitigation_trains_or_says_why_it_cannot(name):
    cases = get_entry("mitigations", name).load_class().test_cases()
    points, labels = blobs(90)
    stack = [{"name": name, **(cases[0] if cases else {})}]
    classifier = RobustClassifier(stack, network="features", epochs=2, learning_rate=0.01)
    refusal = None
    try:
        classifier.fit(points, labels)
    except nb.UserError as error:
        refusal = str(error)
    assert (refusal is not None) == (name in REFUSED)
    if refusal is None:
        assert np.isfinite(classifier.predict_proba(points)).all()
        assert classifier.label_quality_.shape == (90,)
    else:
        assert refusal.startswith(f"mitigations.{name}: ")


def test_it_works_in_pipelines_searches_and_cross_validation():
    points, labels = blobs()
    names = np.array(["cat", "dog", "owl"])[labels]
    pipeline = make_pipeline(StandardScaler(), RobustClassifier(**SMALL, batch_size=16))
    assert cross_val_score(pipeline, points, names, cv=2).mean() > 0.5
    search = GridSearchCV(pipeline, {"robustclassifier__mitigations": ["cross_entropy", "mixup+gce(q=0.5)"]}, cv=2).fit(
        points, names
    )
    assert len(search.cv_results_["params"]) == 2
    assert set(search.predict(points)) <= {"cat", "dog", "owl"}


def test_the_seed_alone_decides_the_result_and_global_state_stays_as_it_is(workspace):
    points, labels = blobs()
    before = torch.get_rng_state(), torch.get_num_threads()
    first = RobustClassifier(**SMALL).fit(points, labels)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    torch.rand(3)
    restored = pickle.loads(pickle.dumps(clone(first).fit(points, labels)))
    assert (restored.predict_proba(points) == first.predict_proba(points)).all()
    assert len(pickle.dumps(restored)) < 50_000, "training data must not be part of a saved classifier"
    other = RobustClassifier(**SMALL, random_state=1).fit(points, labels)
    assert (other.predict_proba(points) != first.predict_proba(points)).any()
    drawn = [RobustClassifier(**SMALL, random_state=np.random.RandomState(3)).fit(points, labels) for _ in range(2)]
    assert (drawn[0].predict_proba(points) == drawn[1].predict_proba(points)).all()
    assert list(workspace.iterdir()) == []


def test_label_quality_is_low_for_mislabeled_examples():
    points, labels = make_blobs(300, centers=3, n_features=6, random_state=0)
    is_mislabeled = np.arange(300) % 7 == 0
    observed = pd.Series(np.where(is_mislabeled, (labels + 1) % 3, labels))
    classifier = RobustClassifier("gce", network="mlp:16", epochs=10, batch_size=32).fit(
        pd.DataFrame(points).add_prefix("column "), observed
    )
    assert (
        classifier.label_quality_[is_mislabeled].mean() < 0.2 < 0.8 < classifier.label_quality_[~is_mislabeled].mean()
    )
    assert classifier.score(pd.DataFrame(points).add_prefix("column "), labels) > 0.95


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mitigations": "gces"}, "mitigations: unknown mitigation `gces`; did you mean `gce`"),
        ({"mitigations": "co_teaching"}, r"noise rate, which is unknown for your own labels; .*co_teaching\(forget_rate=0.2\)"),
        ({"mitigations": "forward_correction(matrix=oracle)"}, r"the transition matrix, .*\(matrix=estimated\)"),
        ({"mitigations": "el2n(noise_rate=oracle)"}, r"needs the noise rate, .*, such as el2n\(noise_rate=estimated\)"),
        ({"mitigations": "oracle_pruning"}, "needs the label status, .*; choose another mitigation"),
        ({"network": "resnet"}, "network: unknown network `resnet`"),
        ({"network": "small_cnn"}, "network: the dataset holds features; set it to `features`"),
        ({"network": "mlp:x"}, "network: expected widths such as `features_mlp:256`"),
        ({"epochs": 0}, "^epochs: input should be greater than or equal to 1"),
        ({"budget": {"epochs": 3}}, "budget: `epochs` is a parameter of the classifier itself; pass epochs=..."),
        ({"budget": {"momentums": 3}}, "budget: unknown field `momentums`; did you mean `momentum`"),
        ({"device": "gpu"}, "^device: "),
        ({"device": "mps"}, "^device: `mps` is requested, but torch .* sees no Apple GPU here; set device=auto"),
        ({"random_state": -1}, "^random_state: must be an integer from 0"),
        ({"augmentation": "crop"}, "^augmentation: features cannot be augmented"),
    ],
)  # fmt: skip
def test_invalid_parameters_are_refused_by_their_names(parameters, message):
    points, labels = blobs(30)
    with pytest.raises(nb.UserError, match=message) as caught:
        RobustClassifier(**{**SMALL, **parameters}).fit(points, labels)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.eye(3), [0, 1], "X has 3 examples, but y has 2 labels; each example needs one label"),
        (np.eye(3), [0, 0, 0], "y has the one class 0, but at least two classes are needed"),
        (np.eye(3), [0.5, 1.2, 2], "Unknown label type: continuous"),
        (np.array([[np.nan], [1.0]]), [0, 1], "Input X contains NaN"),
        (np.eye(2), [0, np.nan], "contains NaN"),
        (np.eye(2), None, "requires y to be passed"),
        (np.full((2, 4, 4), 300), [0, 1], "pixels from 300 to 300"),
        (np.eye(3), np.array(["a", None, "b"], dtype=object), "y: entry 1 has no label, but None"),
        (np.eye(3), np.array(["a", "b", np.nan], dtype=object), "y: entry 2 has no label, but nan"),
        (np.eye(3), np.ma.array([0, 1, 0], mask=[0, 0, 1]), "y has 1 masked entry; remove it, or fill it in"),
        (np.ma.array(np.eye(3), mask=np.eye(3)), [0, 1, 0], "X has 3 masked entries; remove them, or fill them in"),
        (torch.eye(3).to_sparse(), [0, 1, 0], r"X is a sparse tensor; pass X.to_dense\(\)"),
        (np.eye(3) * 1e300, [0, 1, 0], r"X: column 0 has values of up to 1e\+300, whose spread is no finite number"),
    ],
)
def test_invalid_data_are_refused(points, labels, message):
    with pytest.raises(nb.UserError, match=message):
        RobustClassifier(**SMALL).fit(points, labels)


def test_images_are_asked_for_after_training_on_images():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    classifier = RobustClassifier(**SMALL).fit(images, np.arange(20) % 2)
    with pytest.raises(nb.UserError, match=r"X has the shape \(2, 64\), but RobustClassifier is expecting images"):
        classifier.predict(images[:2].reshape(2, 64))


def test_tensors_and_numbers_of_any_type_are_accepted():
    points, labels = blobs(30)
    tensors = torch.from_numpy(points).bfloat16(), torch.from_numpy(labels)
    given = RobustClassifier(**{**SMALL, "epochs": np.int64(2), "learning_rate": np.float32(0.125)}).fit(*tensors)
    plain = RobustClassifier(**{**SMALL, "epochs": 2, "learning_rate": 0.125}).fit(tensors[0].float().numpy(), labels)
    assert (given.predict_proba(tensors[0]) == plain.predict_proba(tensors[0].float())).all()


def test_predicting_before_training_is_refused():
    with pytest.raises(NotFittedError):
        RobustClassifier().predict(np.eye(2))
