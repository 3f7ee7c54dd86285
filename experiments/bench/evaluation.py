"""An evaluation pass over a split, against a hand-written jitted loop.

    python -m experiments.bench.evaluation          # appends to results/
    python -m experiments.bench.evaluation --quick  # few examples, prints only

Ours is the judge of a run with the default evaluator: logits, every metric of the
supervised evaluator, and the arrays that an evaluation file keeps. The hand-written
loop counts the right answers per class in the same batches and does nothing else.
"""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import common
from experiments.bench.engine import NUM_CLASSES, Case, config_of
from ltjax.train.build import build
from ltjax.train.evaluate import make_judge
from ltjax.train.lanes import training_lanes
from ltjax.train.run import Run


def hand_written(run: Run, params, model_state):
    """A function that gives the accuracy of each class [K]."""
    arrays = jax.device_put(run.train_set.feed.arrays)
    size, batch = run.train_set.size, run.config.eval_batch_size

    @jax.jit
    def step(sums, inputs, labels):
        outputs, _ = run.model.forward(params, model_state, inputs, train=False)
        right = outputs["logits"].argmax(axis=1) == labels
        return sums.at[:, labels].add(jnp.stack([right, jnp.ones_like(right)]))

    def accuracies():
        sums = jnp.zeros((2, NUM_CLASSES), jnp.int32)
        for start in range(0, size, batch):
            rows = slice(start, start + batch)
            sums = step(sums, arrays["inputs"][rows], arrays["label"][rows])
        right, total = np.asarray(sums)
        return right / total

    return accuracies


def measure(quick: bool, repeats: int):
    case = Case("conv1d", (40, 1), batch=128, replicas=1, steps=1)
    count = 1000 if quick else 50_000
    with tempfile.TemporaryDirectory() as folder:
        run = build(config_of(case, folder, num_images=count))
    lanes = training_lanes(run.config, 1)
    state = jax.jit(jax.vmap(run.init))(run.info.seeds, run.info.hypers)
    split = run.train_set
    judge = make_judge(run.evaluators, (split,), split, lanes)
    first = jax.tree.map(lambda x: x[0], (state.params, state.model_state))
    by_hand = hand_written(run, *first)

    def ours():
        with jax.set_mesh(lanes.layout.mesh):
            return judge(state)

    (found,) = ours().values[f"eval/{split.name}/balanced_accuracy"]
    np.testing.assert_allclose(found, by_hand().mean(), atol=1e-3)
    ratio = common.interleaved_ratios(by_hand, {"judge": ours}, repeats=repeats)
    cells = {
        "model": case.model,
        "examples": str(count),
        "examples_per_s": f"{count / ratio['judge'].seconds:.0f}",
    }
    yield common.row("evaluation pass", "hand-written loop", ratio["judge"], **cells)


if __name__ == "__main__":
    common.command(__doc__, "evaluation.csv", measure)
