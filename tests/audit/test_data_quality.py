"""Copies, near duplicates and outliers of audited data, and the quality of classes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from noisybench.audit import data_quality
from noisybench.audit.data_quality import class_quality, imbalance, measure_data_quality, nearest_examples
from noisybench.audit.findings import analyze
from noisybench.audit.inputs import AuditInput
from noisybench.audit.report import AuditReport, describe_quality, to_json
from noisybench.audit.scores import to_csv
from noisybench.audit.signals import AuditSignals
from noisybench.config.resolve import resolve

SIZE = 60


def audit_input(images: np.ndarray, features: np.ndarray | None = None) -> AuditInput:
    observed = np.arange(len(images)) % 3
    in_test = np.arange(len(images)) >= len(images) - 10
    # Rows of the source start at 100, so that positions cannot be taken for them.
    return AuditInput(
        "data", resolve({}), images, observed, np.arange(len(images)) + 100, (), None, ("a", "b", "c"), (), in_test,
        features=features,
    )  # fmt: skip


def pictures() -> np.ndarray:
    """Return random pictures of blocks; 57 equals 0, and 4 is 3 with other brightness and a little noise."""
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(40, 160, (SIZE, 3, 8, 8)), np.ones((1, 1, 3, 3)))
    images[57] = images[0]
    images[4] = 1.2 * images[3] + 10 + rng.normal(0, 2, images[3].shape)
    return images.astype(np.uint8)


def test_copies_and_near_duplicates_of_pictures_are_found_across_splits() -> None:
    quality = measure_data_quality(audit_input(pictures()))
    assert np.flatnonzero(quality.is_exact_copy).tolist() == [57]
    assert np.flatnonzero(quality.is_near_duplicate).tolist() == [4]
    assert quality.groups == [[0, 57], [3, 4]]
    assert np.flatnonzero(quality.across_splits).tolist() == [0, 57]
    assert np.flatnonzero(quality.other_label).tolist() == [3, 4], "0 and 57 are both of the first class"
    assert quality.is_outlier is None, "there are no features"


def test_uniform_pictures_are_no_duplicates() -> None:
    images = np.full((SIZE, 1, 20, 20), 7, dtype=np.uint8)
    quality = measure_data_quality(audit_input(images))
    assert not (quality.is_exact_copy | quality.is_near_duplicate).any()


def test_near_duplicates_and_outliers_of_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.2, (SIZE, 100)).astype(np.float32) + np.eye(100)[np.arange(SIZE) % 2].astype(np.float32)
    features[55] = 3 * features[5]
    features[9] = rng.normal(0, 1, 100)
    quality = measure_data_quality(audit_input(features[:, :, None, None], features))
    # Another length with the same direction; the direction is that from the mean, which is near zero.
    assert np.flatnonzero(quality.is_near_duplicate).tolist() == [55]
    assert quality.across_splits[[5, 55]].all()
    assert quality.neighbor_distance is not None
    assert int(quality.neighbor_distance.argmax()) == 9


def test_a_far_row_of_a_table_is_an_outlier_and_equal_directions_are_no_duplicates() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 1, (SIZE, 3)).astype(np.float32)
    table[20] = 40
    quality = measure_data_quality(audit_input(table[:, :, None, None], table))
    assert quality.is_outlier is not None
    assert np.flatnonzero(quality.is_outlier).tolist() == [20]
    assert quality.near_origin is None
    assert not quality.is_near_duplicate.any()


def test_neighbors_equal_those_of_all_distances() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (40, 5)).astype(np.float32)
    neighbors, distances, _ = nearest_examples(points)
    complete = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(complete, np.inf)
    np.testing.assert_allclose(distances, np.sort(complete, axis=1)[:, :10], rtol=1e-5)
    np.testing.assert_array_equal(neighbors, np.argsort(complete, axis=1)[:, :10])


def test_neighbors_in_many_dimensions_are_found_by_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 1, (4, 300))
    points = (centers[np.arange(80) % 4] + rng.normal(0, 0.01, (80, 300))).astype(np.float32)
    monkeypatch.setattr(data_quality, "SEARCH_DIMENSIONS", 5)
    neighbors, distances, _ = nearest_examples(points)
    assert (neighbors % 4 == np.arange(80)[:, None] % 4).all()
    np.testing.assert_allclose(distances[0, 0], np.linalg.norm(points[0] - points[neighbors[0, 0]]), rtol=1e-5)


def test_large_data_are_compared_with_a_part_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(data_quality, "MAX_COMPARED", 25)
    features = rng.normal(0, 1, (SIZE, 80)).astype(np.float32)
    data = audit_input(features[:, :, None, None], features)
    report = report_of(data)
    assert report.quality.num_compared == 25
    assert len(np.unique(nearest_examples(features)[0])) <= 25
    assert "each example was compared with 25 others, not with all 60" in describe_quality(report)


def report_of(data: AuditInput) -> AuditReport:
    predicted = 0.7 * np.eye(3)[data.observed] + 0.1
    predicted[:6] = [0.1, 0.1, 0.8]
    result = analyze(data.observed, AuditSignals(predicted, None, None))
    return AuditReport(data, result, measure_data_quality(data), "networks", [])


def test_findings_and_scores_hold_classes_copies_and_outliers() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (SIZE, 3)).astype(np.float32)
    features[20], features[57] = 40, features[0]
    report = report_of(audit_input(features[:, :, None, None], features))
    findings: dict[str, Any] = json.loads(to_json(report))
    first = findings["class_quality"][0]
    assert (first["name"], first["labels"], first["accuracy"]) == ("a", 20, 0.9)
    # Of 20 labels, 18 have a probability of 0.8 and two of 0.1.
    assert first["label_quality"] == pytest.approx(0.73)
    assert findings["imbalance"] == 1
    assert findings["outliers"] == [120]
    assert findings["duplicates"]["groups"] == [[100, 157]]
    assert findings["duplicates"]["across_splits"] == [100, 157]
    rows = {
        row["index"]: row
        for row in csv.DictReader(io.StringIO(to_csv(report.audit_input, report.result, report.quality)))
    }
    assert rows["157"]["duplicate_of"] == "100"
    assert rows["157"]["is_exact_copy"] == "true"
    assert rows["100"]["duplicate_of"] == ""
    assert rows["120"]["is_outlier"] == "true"
    lines = "\n".join(describe_quality(report))
    assert "labels by class: 20 to 20; imbalance 1.0" in lines
    assert "exact copies: 1, near duplicates not searched; examples with one in another split: 2" in lines
    assert "outliers: 1" in lines


def test_a_class_without_labels_has_no_figures() -> None:
    data = audit_input(pictures())
    without = replace(data, observed=np.minimum(data.observed, 1))
    result = analyze(without.observed, AuditSignals(0.7 * np.eye(3)[without.observed] + 0.1, None, None))
    assert class_quality(without, result)[2] == {
        "name": "c", "labels": 0, "accuracy": None, "suspected": None, "label_quality": None,
    }  # fmt: skip
    assert imbalance(without.observed, 3) is None
