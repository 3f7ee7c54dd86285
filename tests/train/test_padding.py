"""Which networks are told what is padding: those whose batches may hold some."""

import jax
import numpy as np
import pytest

from ltjax.train import build as building


@pytest.fixture
def masks_seen(tiny, monkeypatch):
    """The masks that the network of a run gets while its step is traced."""

    def of(changes):
        seen, make_model = [], building.make_model

        def spied(config, num_classes):
            model = make_model(config, num_classes)

            def forward(*args, mask=None, **options):
                seen.append(mask)
                return model.forward(*args, mask=mask, **options)

            return model._replace(forward=forward)

        with monkeypatch.context() as patch:
            patch.setattr(building, "make_model", spied)
            run = building.build(tiny(changes))

        def first_step():
            state = run.init(0, run.info.replicas[0]["hyper"])
            rows = run.feed.rows(*(part[0] for part in run.plan(0)))
            key = jax.random.key(0)
            batch = run.feed.batch(run.feed.arrays, rows, key, train=True)
            return run.step(state, batch, program=run.program(0))

        jax.eval_shape(first_step)
        steps = range(3 * run.info.steps_per_epoch)
        full = all(np.all(run.plan(step)[1]) for step in steps)
        return seen, full

    return of


@pytest.mark.parametrize(
    "changes",
    [{}, {"sampler.name": "class_balanced"}, {"gradient.name": "sam"}],
    ids=["instance", "class_balanced", "sam"],
)
def test_full_batches_come_without_a_mask(masks_seen, changes):
    seen, full = masks_seen(changes)
    assert full
    assert seen and all(mask is None for mask in seen)


def test_padded_batches_come_with_theirs(masks_seen):
    seen, full = masks_seen({"sampler.remainder": "pad"})
    assert not full
    assert seen and all(mask is not None for mask in seen)
