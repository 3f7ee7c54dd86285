"""Other classifiers on a finished run, against numpy on its features."""

import dataclasses

import jax
import numpy as np
import pytest

from ltjax.cli import main
from ltjax.report import read_run
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.posthoc import evaluate_classifier
from ltjax.train.restore import evaluate_run, restore_run, split_outputs

# Of the test set's 100; two scores may tie but for rounding.
ONE_EXAMPLE = 0.0101
HOLDOUT = {
    "replicas.seeds": (0, 1),
    "eval_every": "0 steps",
    "data.holdout": 0.25,
    "total": "60 steps",
    "optimizer.lr": 0.2,
}


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """Workdir of a run with two seeds that set a quarter of each class aside."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(HOLDOUT, workdir=workdir)
    return workdir


@pytest.fixture(scope="module")
def known(finished):
    """Split -> (features [R, N, D], logits [R, N, K], labels), and the heads."""
    run, state, _ = restore_run(finished)
    splits = {}
    for split in (run.train_set, *run.eval_sets):
        arrays = split.feed.arrays
        forward = lambda p, m, x=arrays["inputs"]: run.model.forward(
            p, m, x, train=False
        )[0]
        outputs = jax.vmap(forward)(state.params, state.model_state)
        values = (np.asarray(outputs[n], float) for n in ("features", "logits"))
        splits[split.name] = (*values, np.asarray(arrays["label"]))
    heads = {n: np.asarray(v, float) for n, v in state.params["head"].items()}
    return splits, heads, run.info.class_counts


def balanced(scores, labels):
    """Mean recall [R] of scores [R, N, K]."""
    hits = scores.argmax(-1) == labels
    return np.stack([hits[:, labels == k].mean(1) for k in range(10)]).mean(0)


def test_examples_held_out_are_not_trained_on(finished, known):
    splits, _, counts = known
    # Counts 40, 30, 23, 18, 14, 11, 8, 6, 5, 4, of which floor(n / 4) are set aside.
    aside = [10, 7, 5, 4, 3, 2, 2, 1, 1, 1]
    np.testing.assert_array_equal(np.bincount(splits["val"][2]), aside)
    left = np.subtract([40, 30, 23, 18, 14, 11, 8, 6, 5, 4], aside)
    np.testing.assert_array_equal(counts, left)
    np.testing.assert_array_equal(np.bincount(splits["train"][2]), left)
    run, _, _ = restore_run(finished)
    val = next(s for s in run.eval_sets if s.name == "val").feed.arrays["inputs"]
    ours = run.feed.arrays["inputs"].reshape(-1, 40)
    assert not any((row == ours).all(1).any() for row in val.reshape(-1, 40))
    assert "eval/val/balanced_accuracy" in evaluate_run(finished)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_outputs_of_a_split_are_in_its_order(finished, known, split):
    features, logits, labels = known[0][split]
    run, state, _ = restore_run(finished)
    # In batches that do not divide the split: nothing of the padding comes back.
    size = max(2, len(labels) // 3 - 1)
    engine = dataclasses.replace(run.config.engine, eval_batch_size=size)
    run = run._replace(config=dataclasses.replace(run.config, engine=engine))
    found, targets = split_outputs(run, state, split, outputs=("features", "logits"))
    assert set(found) == {"features", "logits"}
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_allclose(found["features"], features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5, atol=1e-5)


def test_outputs_that_a_run_does_not_have(finished):
    run, state, _ = restore_run(finished)
    with pytest.raises(ValueError, match="split is 'dev', expected one of .*'val'"):
        split_outputs(run, state, "dev")
    with pytest.raises(ValueError, match="outputs is 'scores', expected one of .*logi"):
        split_outputs(run, state, "val", outputs=("logits", "scores"))


@pytest.mark.parametrize(
    "transform, average, score",
    [
        ("none", "examples", "euclidean"),
        pytest.param("l2n", "examples", "dot", marks=pytest.mark.slow),
        ("cl2n", "examples", "euclidean"),
        pytest.param("cl2n", "classes", "dot", marks=pytest.mark.slow),
    ],
)
def test_nearest_means(finished, known, transform, average, score):
    splits, _, _ = known
    train, _, labels = splits["train"]
    test, _, truth = splits["test"]

    def class_mean(x):
        return np.stack([x[:, labels == k].mean(1) for k in range(10)], axis=1)

    center = train.mean(1, keepdims=True)
    if average == "classes":
        center = class_mean(train).mean(1, keepdims=True)
    if transform == "cl2n":
        train, test = train - center, test - center
    if transform != "none":
        train, test = (
            x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (train, test)
        )
    means = class_mean(train)
    scores = np.einsum("rnd,rkd->rnk", test, means)
    if score == "euclidean":
        scores = -np.square(test[:, :, None] - means[:, None]).sum(-1)
    options = dict(transform=transform, average=average, score=score)
    found = evaluate_classifier(finished, "ncm", **options)
    np.testing.assert_allclose(
        found["eval/test/balanced_accuracy"], balanced(scores, truth), atol=ONE_EXAMPLE
    )


def scaled(known, split, tau, *, keep=False):
    splits, heads, _ = known
    _, logits, labels = splits[split]
    bias = heads["bias"][:, None]
    norm = np.linalg.norm(heads["kernel"], axis=1)[:, None]
    tau = np.broadcast_to(tau, len(norm))[:, None, None]
    return (logits - bias) / norm**tau + keep * bias, labels


@pytest.mark.parametrize("bias_mode", ["drop", "keep"])
def test_tau_norm_of_a_given_strength(finished, known, bias_mode):
    found = evaluate_classifier(finished, "tau_norm", tau=1.5, bias_mode=bias_mode)
    expected = balanced(*scaled(known, "test", 1.5, keep=bias_mode == "keep"))
    np.testing.assert_allclose(
        found["eval/test/balanced_accuracy"], expected, atol=ONE_EXAMPLE
    )
    np.testing.assert_allclose(found["classifier/tau"], 1.5)


def test_tau_norm_chooses_on_held_out_examples(finished, known):
    found = evaluate_classifier(finished, "tau_norm", rule="best")
    grid = np.linspace(0, 2, 4001)
    best = np.stack([balanced(*scaled(known, "val", t)) for t in grid]).max(0)
    reached = balanced(*scaled(known, "val", found["classifier/tau"]))
    assert (reached >= best - 1e-9).all()
    np.testing.assert_allclose(
        found["eval/test/balanced_accuracy"],
        balanced(*scaled(known, "test", found["classifier/tau"])),
        atol=ONE_EXAMPLE,
    )


def test_adjustment_chooses_on_what_it_is_told(finished, known):
    splits, _, counts = known
    log_prior = np.log(counts / counts.sum())

    def adjusted(split, tau):
        _, logits, labels = splits[split]
        tau = np.broadcast_to(tau, 2)[:, None, None]
        return balanced(logits - tau * log_prior, labels)

    for split in ("val", "train"):
        found = evaluate_classifier(finished, "la", select_on=split, rule="best")
        grid = np.linspace(0, 3, 3001)
        best = np.stack([adjusted(split, t) for t in grid]).max(0)
        tau = found["classifier/tau"]
        assert (adjusted(split, tau) >= best - 1e-9).all()
        np.testing.assert_allclose(
            found["eval/test/balanced_accuracy"],
            adjusted("test", tau),
            atol=ONE_EXAMPLE,
        )
    # The rule of one standard error never asks for more.
    careful = evaluate_classifier(finished, "la")
    bold = evaluate_classifier(finished, "la", rule="best")
    assert (careful["classifier/tau"] <= bold["classifier/tau"]).all()


def test_the_command_line_says_the_same(finished, capsys, tmp_path):
    out = tmp_path / "scaled"
    options = ["--tau", "1.5", "--bias", "keep", "--out", str(out)]
    code = main(["eval", str(finished), "--classifier", "tau_norm", *options])
    printed = capsys.readouterr().out.splitlines()
    lines = dict(line.split(maxsplit=1) for line in printed)
    assert code == 0 and (out / "run.json").exists()
    found = evaluate_classifier(finished, "tau_norm", tau=1.5, bias_mode="keep")
    values = found["eval/test/balanced_accuracy"]
    expected = f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"
    assert lines["eval/test/balanced_accuracy"] == expected
    assert lines["classifier/tau"] == "1.5000 ± 0.0000"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--transform", "l2n"], "ltjax eval: unknown argument '--transform'"),
        (
            ["--classifier", "ncm", "--select-on", "val"],
            "classifier.select_on is unknown to 'ncm'; valid: average, score",
        ),
        (
            ["--classifier", "la", "--posthoc-tau", "1"],
            "expected --classifier la --tau TAU",
        ),
        (["--classifier", "knn"], "classifier.name is 'knn', unknown; "),
        (["--out", "x"], "--out is given, which goes with another classifier"),
    ],
)
def test_options_that_do_not_belong_together(finished, capsys, arguments, message):
    assert main(["eval", str(finished), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_its_folder_reads_like_a_run(finished, tmp_path):
    found = evaluate_classifier(finished, "ncm", out=tmp_path / "ncm")
    run = read_run(tmp_path / "ncm")
    assert run.method == f"{read_run(finished).method} + NCM"
    np.testing.assert_allclose(
        run.summary["balanced_accuracy"], found["eval/test/balanced_accuracy"]
    )


def test_what_cannot_be_asked_for(finished, train, tmp_path):
    with pytest.raises(ValueError, match="classifier.name is 'svm', unknown"):
        evaluate_classifier(finished, "svm")
    with pytest.raises(ValueError, match="rule is 'worst'"):
        evaluate_classifier(finished, "la", rule="worst")
    with pytest.raises(
        ValueError, match="select_on is 'test', unknown; valid: train, val"
    ):
        evaluate_classifier(finished, "tau_norm", select_on="test")
    with pytest.raises(ValueError, match="with the bias kept there is no exact"):
        evaluate_classifier(finished, "tau_norm", bias_mode="keep")
    with pytest.raises(ValueError, match="transform is 'cl3n'"):
        evaluate_classifier(finished, "ncm", transform="cl3n")
    with pytest.raises(FileNotFoundError, match="does not hold a run"):
        evaluate_classifier(tmp_path, "ncm")
    cosine = tmp_path / "cosine"
    short = {"total": "2 steps", "eval_every": "0 steps", "loss.name": "ldam"}
    train(short, workdir=cosine)
    with pytest.raises(ValueError, match="head of LDAM is 'cosine'.*expected 'linear'"):
        evaluate_classifier(cosine, "tau_norm", tau=1.0)
    with pytest.raises(ValueError, match=r"no split 'val' .* only \['train'\]"):
        evaluate_classifier(cosine, "la")
    assert Layout(make_mesh()).mesh.size == 8  # all of this ran on eight devices
