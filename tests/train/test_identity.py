"""Whether a run may go on: its config, its data and what has changed since."""

import json
import re

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.train.identity import compare_runs, content_fingerprint, data_facts

CONFIG = {
    "batch_size": 16,
    "model": {"name": "mlp", "kwargs": {"hidden": (16,), "dropout": 0.2}},
    "optimizer": {"lr": 0.05, "nesterov": True},
    "label": "",
}


def changed(**values):
    """CONFIG as JSON, with values by dotted name, or without those that are None."""
    config = json.loads(json.dumps(CONFIG))
    for path, value in values.items():
        *sections, name = path.split("__")
        place = config
        for section in sections:
            place = place[section]
        if value is None:
            del place[name]
        else:
            place[name] = value
    return {"config": config}


def test_a_run_is_itself_also_when_it_was_read_from_json():
    record = {"config": CONFIG, "data": {"train": {"examples": 3}}, "code": "v1"}
    assert compare_runs(json.loads(json.dumps(record)), record) == ([], [])
    assert compare_runs({}, {}) == ([], [])


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ({}, {"batch_size": 32}, "it has batch_size = 16, but this config has 32"),
        ({}, {"optimizer__nesterov": 1}, "nesterov = True, but this config has 1"),
        (
            {"model__kwargs__hidden": [8, 8]},
            {},
            r"\[8, 8\], but this config has \[16\]",
        ),
        ({}, {"model__kwargs__dropout": None}, "dropout = 0.2, but .* has none"),
        (
            {"model__kwargs__dropout": None},
            {},
            "has no model.kwargs.dropout, but .* 0.2",
        ),
        ({}, {"model": "mlp"}, "it has no model, but this config has 'mlp'"),
    ],
)
def test_every_difference_of_the_configs_is_a_fault(old, new, fault):
    faults, notes = compare_runs(changed(**old), changed(**new))
    assert any(re.search(fault, line) for line in faults), faults
    assert notes == []


def test_several_faults_are_all_told():
    new = changed(batch_size=1, optimizer__lr=1.0, label="x", optimizer__nesterov=False)
    assert len(compare_runs(changed(), new).faults) == 4
    free = ("label", "optimizer")
    (fault,) = compare_runs(changed(), new, free=free).faults
    assert "batch_size" in fault
    near = compare_runs(changed(), new, free=("lab", "optimizer.l")).faults
    assert len(near) == 4  # a beginning of whole names


def test_keys_that_an_older_version_did_not_know_stand_at_their_defaults():
    old = changed(optimizer__nesterov=None, label=None)
    defaults = {"optimizer": {"nesterov": True, "lr": 0.1}, "label": ""}
    faults, notes = compare_runs(old, changed(), defaults=defaults)
    assert faults == []
    assert notes == [
        "its version had no label, optimizer.nesterov, which stand at their defaults"
    ]
    new = changed(optimizer__nesterov=False)
    faults, notes = compare_runs(old, new, defaults=defaults)
    assert faults == [
        "it has optimizer.nesterov = True (not known to its version: the default), but"
        " this config has False"
    ]
    assert notes == ["its version had no label, which stands at its default"]


def test_not_a_number_is_itself():
    record = {"config": {"posthoc_tau": float("nan")}}
    assert compare_runs(record, record) == ([], [])


def test_other_versions_are_noted_only():
    old = {"code": "ab12", "versions": {"jax": "0.10.1", "numpy": "2.4", "gone": "1"}}
    new = {"code": "ab13+", "versions": {"jax": "0.10.2", "numpy": "2.4", "new": "1"}}
    faults, notes = compare_runs(old, new)
    assert faults == []
    assert len(notes) == 2
    assert "code ab12, this is ab13+" in notes[0]
    assert notes[1] == "other versions: jax 0.10.1 -> 0.10.2"
    assert compare_runs({}, new) == ([], [])


def inputs(seed=0, count=20):
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


LABELS = np.arange(20) % 3


def facts(x, y=LABELS):
    return {"data": {"train": data_facts(array_source(x, y))}}


@pytest.mark.parametrize(
    "new, what",
    [
        (facts(inputs(1)), "content"),
        (facts(inputs(), LABELS[::-1]), "selection"),
        (facts(inputs(count=16), LABELS[:16]), "examples 20, now 16"),
        (facts(inputs()[::-1]), "content"),
        (facts(inputs().reshape(20, 2, 2)), "content"),
    ],
    ids=["inputs", "labels", "count", "order", "shape"],
)
def test_other_data_are_a_fault(new, what):
    old = json.loads(json.dumps(facts(inputs())))
    assert compare_runs(old, facts(inputs())) == ([], [])
    (fault,) = compare_runs(old, new).faults
    assert fault.startswith("its train data have changed: ") and what in fault


def test_data_of_which_one_says_nothing():
    known = facts(inputs())
    assert compare_runs({}, known).faults == []
    assert "cannot be compared" in compare_runs({}, known).notes[0]
    assert compare_runs(known, {}) == ([], [])
    older = {"data": {"train": {"selection": known["data"]["train"]["selection"]}}}
    assert compare_runs(older, known) == ([], [])
    more = {"data": known["data"] | {"val": {}}}
    assert compare_runs(known, more).faults == ["only these data have a split 'val'"]
    assert compare_runs(more, known).faults == ["only its data have a split 'val'"]


def test_a_single_input_counts_where_all_are_read():
    x = inputs()
    x[13, 2] = np.nextafter(x[13, 2], np.float32(9))
    before = content_fingerprint(array_source(inputs(), LABELS))
    assert content_fingerprint(array_source(x, LABELS)) != before


def test_of_large_data_a_sample_is_read():
    read = []

    def fingerprint(x, **options):
        source = array_source(x, LABELS)
        reader = source.reader

        def watch(indices):
            read.extend(indices.tolist())
            return reader(indices)

        object.__setattr__(source, "reader", watch)
        return content_fingerprint(source, **options)

    limit = {"max_bytes": 20 * 16 - 1, "samples": 5}
    before = fingerprint(inputs(), **limit)
    assert read == [0, 5, 10, 14, 19]  # 19 / 4 k: 4.75, 9.5, 14.25, rounded
    x = inputs()
    x[14] += 1
    assert fingerprint(x, **limit) != before
    read.clear()
    fingerprint(inputs(), max_bytes=20 * 16)
    assert read == list(range(20))
