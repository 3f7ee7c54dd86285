"""One row per sampler, one test per property that every sampler must have."""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ltjax import resampling
from ltjax.class_stats import class_balanced_weights

COUNTS = np.array([23, 9, 0, 4, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
N, K, B = LABELS.size, COUNTS.size, 8
WEIGHTS = class_balanced_weights(COUNTS, beta=0.99)

SAMPLERS = {
    "instance_drop": lambda: resampling.instance(N, B, labels=LABELS, num_classes=K),
    "instance_pad": lambda: resampling.instance(N, B, remainder="pad", labels=LABELS),
    "class_power": lambda: resampling.class_power(LABELS, K, B, power=0.3),
    "class_balanced": lambda: resampling.class_balanced(LABELS, K, B),
    "square_root": lambda: resampling.square_root(LABELS, K, B),
    "class_weighted": lambda: resampling.class_weighted(LABELS, K, B, weights=WEIGHTS),
    "progressive": lambda: resampling.progressive(LABELS, K, B, total_epochs=3),
    "class_aware": lambda: resampling.class_aware(LABELS, K, B),
    "repeat_factor": lambda: resampling.repeat_factor(LABELS, K, B, threshold=0.2),
    "deferred": lambda: resampling.deferred(
        resampling.instance(N, B, labels=LABELS),
        resampling.class_balanced(LABELS, K, B),
        switch_step=5,
    ),
}
STEPS = range(12)


def plans(sampler, seed=3, steps=STEPS):
    return [sampler(seed, step) for step in steps]


def same(a, b):
    return all(
        np.array_equal(i, j) and np.array_equal(m, n)
        for (i, m), (j, n) in zip(a, b, strict=True)
    )


# What their definitions say of the classes, at step 6 of 4 steps per epoch.
POWER = {"class_power": 0.3, "class_balanced": 0.0, "square_root": 0.5}


def powers(present, q):
    powered = np.where(np.isnan(present), np.nan, present**q)  # nan**0 is 1
    return powered / np.nansum(powered)


def _repeated(present):
    drawn = present * np.maximum(1, np.sqrt(0.2 / (present / N)))
    return drawn / np.nansum(drawn)


def expected_probabilities(name, step):
    present = np.where(COUNTS > 0, COUNTS, np.nan)
    instance, balanced = present / N, present / present / 4
    share = {
        "class_weighted": present * WEIGHTS / np.nansum(present * WEIGHTS),
        "progressive": (1 - min(step // 4 / 2, 1)) * instance
        + min(step // 4 / 2, 1) * balanced,
        "class_aware": balanced,
        "repeat_factor": _repeated(present),
        "deferred": instance if step < 5 else balanced,
        **{k: powers(present, q) for k, q in POWER.items()},
    }
    return np.nan_to_num(share.get(name, instance))


@pytest.mark.parametrize("step", [0, 6])
@pytest.mark.parametrize("name", SAMPLERS)
def test_class_probabilities_are_readable(name, step):
    found = SAMPLERS[name]().class_probabilities(step)
    assert found.dtype == np.float64 and found.shape == (K,)
    np.testing.assert_allclose(found, expected_probabilities(name, step), rtol=1e-12)
    # And they are what is drawn, whatever the seed.
    drawn = np.zeros(K)
    for seed in range(300):
        indices, mask = SAMPLERS[name]()(seed, step)
        drawn += np.bincount(LABELS[indices[mask]], minlength=K)
    np.testing.assert_allclose(drawn / drawn.sum(), found, atol=0.05)


def test_instance_without_labels_says_what_it_lacks():
    sampler = resampling.instance(N, B)
    with pytest.raises(ValueError, match="does not know the classes"):
        sampler.class_probabilities()
    with pytest.raises(ValueError, match="there are 37 labels, but"):
        resampling.instance(36, B, labels=LABELS)
    balanced = resampling.class_balanced(LABELS, K, B)
    mixed = resampling.deferred(sampler, balanced, switch_step=5)
    with pytest.raises(ValueError, match="does not know the classes"):
        mixed.class_probabilities(6)


@pytest.fixture(params=SAMPLERS, ids=str)
def make(request):
    return SAMPLERS[request.param]


def test_every_public_sampler_has_a_row():
    functions = {
        name
        for name, member in vars(resampling).items()
        if inspect.isfunction(member)
        and inspect.signature(member).return_annotation is resampling.Sampler
        and name != "accompanied"  # its plans have several streams
    }
    rows = {name.removesuffix("_drop").removesuffix("_pad") for name in SAMPLERS}
    assert functions == rows


def test_shapes_dtypes_and_range(make):
    sampler = make()
    for indices, mask in plans(sampler):
        assert indices.shape == mask.shape == (B,)
        assert indices.dtype == np.int32 and mask.dtype == np.bool_
        assert indices.min() >= 0 and indices.max() < N
        assert np.all(indices[~mask] == 0)


def test_epoch_length(make):
    sampler = make()
    assert sampler.batch_size == B
    padded = plans(sampler)[sampler.steps_per_epoch - 1][1].sum() < B
    assert sampler.steps_per_epoch == (N // B + 1 if padded else N // B)


def test_pure_in_seed_and_step(make):
    sampler, expected = make(), plans(make())
    backwards = plans(sampler, steps=reversed(STEPS))[::-1]
    assert same(backwards, expected)
    assert same(plans(sampler), expected)
    assert same([sampler(3, np.int64(step)) for step in STEPS], expected)


def test_seeds_and_steps_differ(make):
    first, second = plans(make(), seed=3), plans(make(), seed=4)
    assert not any(same([a], [b]) for a, b in zip(first, second, strict=True))
    assert not any(same([a], [b]) for a, b in zip(first[:-1], first[1:], strict=True))


def test_global_random_state_is_untouched(make):
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    plans(make())
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    expected = plans(make())
    np.random.seed(8)  # noqa: NPY002
    assert same(plans(make()), expected)


def test_results_may_be_overwritten(make):
    sampler, expected = make(), plans(make())
    for indices, mask in plans(sampler):
        indices[:], mask[:] = 0, False
    assert same(plans(sampler), expected)


def test_survives_pickling(make):
    assert same(plans(pickle.loads(pickle.dumps(make()))), plans(make()))


def test_empty_classes_are_never_drawn(make):
    for indices, mask in plans(make()):
        assert 2 not in LABELS[indices[mask]]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_rows_of_all_processes_are_the_global_plan(make, processes):
    asked = [make() for _ in range(processes)]
    for step in STEPS:
        indices, mask = make()(3, step)
        merged = np.empty_like(indices), np.empty_like(mask)
        for p, sampler in enumerate(asked):
            for whole, part in zip(merged, sampler(3, step), strict=True):
                whole[p::processes] = part[p::processes]
        assert same([merged], [(indices, mask)])


def test_negative_seed_or_step_is_refused(make):
    with pytest.raises(ValueError, match="sampler: seed is -1"):
        make()(-1, 0)
    with pytest.raises(ValueError, match="sampler: step is -2"):
        make()(0, -2)


def test_plan_is_the_same_in_another_process(tmp_path):
    (tmp_path / "samplers.pkl").write_bytes(
        pickle.dumps({name: build() for name, build in SAMPLERS.items()})
    )
    code = (
        "import pickle, sys, pathlib; folder = pathlib.Path(sys.argv[1])\n"
        "samplers = pickle.loads((folder / 'samplers.pkl').read_bytes())\n"
        "plans = {n: [s(3, t) for t in range(12)] for n, s in samplers.items()}\n"
        "(folder / 'plans.pkl').write_bytes(pickle.dumps(plans))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    theirs = pickle.loads((tmp_path / "plans.pkl").read_bytes())
    for name, build in SAMPLERS.items():
        assert same(theirs[name], plans(build())), name
