"""Corrupted test images: values by case, means, and errors relative to a baseline."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.corruptions import CorruptionOptions, make, value_of
from ltjax.metrics.corruption_error import corruption_case
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.check import check

LABELS = np.array([0, 0, 0, 1])
CASES = [0] + [corruption_case(n, s) for n in ("fog", "jpeg") for s in range(1, 6)]


def judged(**options):
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {"logits": inputs},
        class_counts=np.array([30, 10]),
        groups={},
        networks={},
    )
    return make(CorruptionOptions(**options), setting)


def arrays_of(evaluator, wrong):
    """`wrong[c]` of the three examples of class 0 are taken for class 1 in case c."""
    margin = [
        1.0 if label or row < wrong[c] else -1.0
        for c in range(len(CASES))
        for row, label in enumerate(LABELS)
    ]
    logits = jnp.stack([jnp.zeros(len(margin)), jnp.asarray(margin)], axis=1)
    batch = {
        "inputs": logits,
        "label": jnp.tile(jnp.asarray(LABELS), len(CASES)),
        "corruption": jnp.repeat(jnp.asarray(CASES), 4),
    }
    kept = evaluator.judge.fn(None, batch, None)
    return evaluator.arrays([np.asarray(x)[None] for x in kept], None, None)


WRONG = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3]


def test_balanced_accuracy_of_each_case_and_its_means():
    evaluator = judged()
    arrays = arrays_of(evaluator, WRONG)
    found = evaluator.summarize(arrays)
    value = 1 - np.array(WRONG) / 6  # one class of two loses a third for each error
    assert found["clean"][0] == pytest.approx(value[0])
    assert found["corrupted_fog_3"][0] == pytest.approx(value[3])
    assert found["corrupted_fog"][0] == pytest.approx(value[1:6].mean())
    assert found["severity_2"][0] == pytest.approx((value[2] + value[7]) / 2)
    assert found["corrupted_mean"][0] == pytest.approx(value[1:].mean())
    assert found["corrupted_worst"][0] == pytest.approx(value[6:].mean())
    assert "mean_corruption_error" not in found
    for place, name in {
        "severity (%)/clean": "clean",
        "severity (%)/severity 2": "severity_2",
        "corruption (%)/fog": "corrupted_fog",
    }.items():
        charted = arrays[f"profiles/mean recall by {place}"]
        np.testing.assert_allclose(charted, 100 * found[name])


def test_areas_count_ties_half():
    scores = np.array([[0.0, 0.2], [0.0, 0.5], [0.0, 0.5], [0.0, 0.1]])
    # The positives 0.5 and 0.1 against 0.2 and 0.5: above, tied; below, below.
    assert value_of("auc", scores, np.array([0, 0, 1, 1])) == pytest.approx(1.5 / 4)


def test_errors_are_divided_by_those_of_the_baseline(tmp_path):
    evaluator = judged()
    base = arrays_of(evaluator, [0] + [2] * 10)
    np.savez(tmp_path / "base.npz", **base)
    relative = judged(baseline=str(tmp_path / "base.npz"))
    found = relative.summarize(arrays_of(relative, WRONG))
    want = np.mean([sum(WRONG[1:6]) / 10, sum(WRONG[6:]) / 10])
    assert found["mean_corruption_error"][0] == pytest.approx(want)
    np.savez(tmp_path / "other.npz", **{**base, "corruption_cases": np.ones((1, 11))})
    for name, message in (
        ("other", "has other corruptions, expected fog, jpeg"),
        ("no", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            judged(baseline=str(tmp_path / f"{name}.npz")).summarize(base)


def test_a_split_without_corruptions_is_clean_only():
    evaluator = judged()
    batch = {"inputs": jnp.eye(2)[LABELS], "label": jnp.asarray(LABELS)}
    kept = evaluator.judge.fn(None, batch, None)
    arrays = evaluator.arrays([np.asarray(x)[None] for x in kept], None, None)
    assert evaluator.summarize(arrays).keys() == {"clean"}


def test_a_config_asks_for_the_split():
    spec = "configs/robust_auc.py:data=glyphs,method=ce,smoke"
    config = load_config(["--config", spec])
    config.data.corruptions, config.data.corrupted_images = ("fog",), 6
    run = build(check(config))
    sizes = {split.name: split.size for split in run.eval_sets}
    assert sizes["corrupted"] == 36
    config.data.corruptions = ()
    with pytest.raises(ConfigError, match="config.data.corruptions is empty"):
        check(config)
    config.data.corruptions = ("frog",)
    with pytest.raises(ConfigError, match="'frog', unknown; did you mean 'fog'"):
        check(config)
