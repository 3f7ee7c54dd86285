"""Spectra of a run's checkpoint: those of its own parameters, data and groups."""

import re
import types

import jax
import numpy as np
import pytest

from ltjax._seal import unsealed
from ltjax.cli import main
from ltjax.losses import softmax_cross_entropy
from ltjax.methods.gradient_rule import plain
from ltjax.sharpness import hessian_spectrum, padded_batches
from ltjax.train import spectra
from ltjax.train.build import build, load_data
from ltjax.train.spectra import run_spectra

# Trained and evaluated with adjusted logits, which the spectra must not see.
CHANGES = {
    "total": "6 steps",
    "checkpoint_every": "3 steps",
    "eval_every": "0 steps",
    "replicas.seeds": (0, 1),
    "replicas.layout": "vmap",
    "loss.name": "la",
    "method.posthoc_tau": 1.0,
    "weights.name": "class_balanced",
    "gradient.name": "imbsam",
    "gradient.eta": 15,
}
# Counts 40, 30, 23, 18, 14, 11, 8, 6, 5, 4.
TAIL = np.arange(10) >= 4


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """(result, workdir) of two replicas."""
    workdir = tmp_path_factory.mktemp("finished")
    return train(CHANGES, workdir=workdir), workdir


@pytest.fixture(scope="module")
def direct(finished, tiny):
    """`direct(replica, members, **options)`: straight from parameters and data."""
    config = tiny(CHANGES)
    forward = build(config).model.forward
    source = load_data(config).train
    data = {
        "x": np.asarray(source.read(np.arange(len(source))), np.float32),
        "label": source.labels,
    }

    def spectrum(replica, members, *, batch_size, **options):
        state = jax.tree.map(lambda x: np.asarray(x[replica]), finished[0].state.params)
        averages = jax.tree.map(lambda x: x[replica], finished[0].state.model_state)

        def loss_fn(params, batch):
            outputs, _ = forward(params, averages, batch["x"], train=False)
            return softmax_cross_entropy(outputs["logits"], batch["label"])

        rows = np.flatnonzero(members[data["label"]])
        batches = padded_batches(data, rows, batch_size)
        return hessian_spectrum(loss_fn, state, batches, **options)

    return spectrum


def test_values_are_those_of_hessian_spectrum(finished, direct):
    sizes = {"batch_size": 60, "num_steps": 6, "num_starts": 2, "trace_probes": 9}
    found = run_spectra(finished[1], replica=1, seed=5, **sizes)
    groups = {"all": np.ones(10, bool), "head": ~TAIL, "tail": TAIL}
    assert list(found) == list(groups)
    for name, members in groups.items():
        expected = direct(1, members, key=jax.random.key(5), **sizes)
        for field, value in expected._asdict().items():
            ours = getattr(found[name], field)
            scale = np.abs(value).max()
            np.testing.assert_allclose(
                ours, value, rtol=1e-4, atol=1e-4 * scale, err_msg=f"{name} {field}"
            )
    assert found["head"].num_examples == 111 and found["tail"].num_examples == 48
    # Another replica has other parameters.
    other = direct(0, TAIL, key=jax.random.key(5), **sizes)
    assert abs(other.lambda_max / found["tail"].lambda_max - 1) > 1e-3


def test_everything_is_on_disk(finished):
    found = run_spectra(finished[1], num_steps=2, num_starts=1, trace_probes=2)
    folder = finished[1] / "spectrum"
    numbers = unsealed((folder / "head_tail_6.json").read_text())
    curves = np.load(folder / "head_tail_6.npz")
    assert list(numbers) == ["all", "head", "tail"]
    for name, spectrum in found.items():
        for field, value in spectrum._asdict().items():
            if field in numbers[name]:
                assert numbers[name][field] == pytest.approx(float(value))
            else:
                np.testing.assert_array_equal(curves[f"{name}/{field}"], value)
    assert set(numbers["all"]) | {"grid", "density", "ritz_values", "ritz_weights"} == (
        set(found["all"]._fields)
    )


@pytest.mark.parametrize(
    ("grouping", "sizes"),
    [
        # many > 20, few < 8 (`tiny_config`).
        ("shots", {"all": 159, "many": 93, "medium": 51, "few": 15}),
        (
            "classes",
            {"all": 159}
            | {
                f"class {k}": n
                for k, n in enumerate((40, 30, 23, 18, 14, 11, 8, 6, 5, 4))
            },
        ),
    ],
)
def test_other_groups(grouping, sizes, finished):
    sparing = {"num_steps": 1, "num_starts": 1, "trace_probes": 2}
    found = run_spectra(finished[1], grouping=grouping, **sparing)
    assert {name: s.num_examples for name, s in found.items()} == sizes
    assert (finished[1] / "spectrum" / f"{grouping}_6.json").exists()


def test_an_earlier_checkpoint(finished, train):
    sparing = {"grouping": "shots", "num_steps": 1, "num_starts": 1, "trace_probes": 2}
    early = run_spectra(finished[1], step=3, **sparing)
    late = run_spectra(finished[1], step=6, **sparing)
    assert early["all"].trace != late["all"].trace
    assert (finished[1] / "spectrum" / "shots_3.json").exists()
    np.testing.assert_equal(  # what no step names is the newest
        run_spectra(finished[1], **sparing)["all"]._asdict(), late["all"]._asdict()
    )


def test_errors_name_what_came(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"of step 4, only of \[3, 6\]"):
        run_spectra(finished[1], step=4)
    with pytest.raises(ValueError, match="grouping is 'tail', expected .'head_tail'"):
        run_spectra(finished[1], grouping="tail")
    with pytest.raises(ValueError, match=r"replica is 2, expected \[0, 2\)"):
        run_spectra(finished[1], replica=2)
    with pytest.raises(FileNotFoundError, match="does not hold a run"):
        run_spectra(tmp_path)


def test_a_rule_without_a_tail_has_no_such_groups(train, tmp_path):
    workdir = tmp_path / "plain"
    train({"total": "1 steps", "eval_every": "0 steps"}, workdir=workdir)
    with pytest.raises(ValueError, match="'plain' of this run does not tell head from"):
        run_spectra(workdir)


def test_the_command_prints_and_draws_the_spectra_of_head_and_tail(finished, capsys):
    workdir = finished[1]
    argv = ["spectrum", str(workdir), "--steps", "4", "--starts", "1"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    saved = unsealed((workdir / "spectrum" / "head_tail_6.json").read_text())
    assert list(saved) == ["all", "head", "tail"]
    examples = {name: found["num_examples"] for name, found in saved.items()}
    assert examples == {"all": 159, "head": 111, "tail": 48}
    for name, found in saved.items():
        (row,) = re.findall(rf"^{name}\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)$", out, re.M)
        columns = ("lambda_min", "lambda_max", "trace", "nonconvexity")
        for text, column in zip(row, columns, strict=True):
            assert float(text) == pytest.approx(found[column], rel=1e-3, abs=5.1e-4)
    figure = workdir / "spectrum" / "head_tail.png"
    assert f"figure {figure}" in out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_what_it_cannot_group(finished, capsys):
    assert main(["spectrum", str(finished[1]), "--grouping", "tails"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: spectrum: grouping is 'tails', expected")


def test_a_threshold_serves_rules_without_a_tail():
    info = types.SimpleNamespace(class_counts=np.array([40, 15, 14]), groups={})
    run = types.SimpleNamespace(info=info, rule=plain(), config=None)
    found = spectra._groups(run, "head_tail", 15)
    assert found["tail"].tolist() == [False, False, True]
    assert found["head"].tolist() == [True, True, False]
    with pytest.raises(ValueError, match="eta is 15, but the grouping is 'shots'"):
        spectra._groups(run, "shots", 15)
