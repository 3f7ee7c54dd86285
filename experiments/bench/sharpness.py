"""A training step under every sharpness rule, as a ratio to the plain step.

    python -m experiments.bench.sharpness                    # ResNet-32 at CIFAR shapes
    python -m experiments.bench.sharpness --model resnet20 --batch 32
    python -m experiments.bench.sharpness --quick            # tiny, prints only

Each step is forward, backward, SGD with momentum. Beside the ratio of times stands the
ratio of XLA's own operation counts, which no noise touches. What to expect of the
latter: SAM 2.00, ImbSAM and SSE-SAM's second stage 2.67, its first stage 3.67; with
tail rows compacted to K of B rows (independent rows only) 1 + 2K/B and 2(1 + K/B).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import common
from ltjax import sharpness
from ltjax.models import build_model

NUM_CLASSES = 100
IS_TAIL = np.arange(NUM_CLASSES) >= 70  # CIFAR-100-LT, ratio 100, threshold 20
CLASS_COUNTS = (500 * 0.01 ** (np.arange(NUM_CLASSES) / (NUM_CLASSES - 1))).astype(int)


def rules(labels: np.ndarray, independent: bool) -> dict[str, tuple[Callable, dict]]:
    """Name -> (function that makes the terms, options of the executor)."""
    size = len(labels)
    radii = {"rho_head": 0.05, "rho_tail": 0.1}

    def imbsam(**options):
        return lambda: sharpness.imbsam(labels, IS_TAIL, rho=0.05, **options)

    def sse_sam(stage, **options):
        return lambda: sharpness.sse_sam(
            labels, IS_TAIL, stage=stage, **radii, **options
        )

    cases = {
        "plain": (lambda: sharpness.plain(size), {}),
        "sam": (lambda: sharpness.sam(size, rho=0.05), {}),
        "asam": (
            lambda: sharpness.sam(size, rho=0.5),
            {"scale": sharpness.asam()},
        ),
        "sam_on": (
            lambda: sharpness.sam(size, rho=0.05),
            {"mask": sharpness.normalization_only},
        ),
        "sam_scope_4": (
            lambda: sharpness.sam(size, rho=0.05),
            {"scope": size // 4},
        ),
        "imbsam": (imbsam(), {}),
        "sse_sam_stage1": (sse_sam(1), {}),
        "sse_sam_stage2": (sse_sam(2), {}),
    }
    if independent:
        rows = size // 8
        options = {"rows_independent": True}
        cases |= {
            "imbsam_rows_8th": (imbsam(tail_rows=rows), options),
            "sse_sam_stage1_rows_8th": (sse_sam(1, tail_rows=rows), options),
            "imbsam_rows_0": (imbsam(tail_rows=0), options),
        }
    return cases


def prepare(
    model_name: str,
    norm: str,
    batch: int,
    shape: tuple[int, ...],
    names: Sequence[str] = (),
) -> tuple[dict[str, jax.stages.Lowered], Any, dict[str, jax.Array]]:
    """The step of every rule (or of those named), traced; a state; a batch."""
    model = build_model(model_name, num_classes=NUM_CLASSES, norm=norm)
    rng = np.random.default_rng(0)
    # An eighth of the rows at most is tail; they come first, as a plan puts them.
    labels = np.where(np.arange(batch) < batch // 16, 80, rng.integers(0, 70, batch))
    inputs = jnp.asarray(rng.normal(size=(batch, *shape)), jnp.float32)
    data = {"inputs": inputs, "label": jnp.asarray(labels, jnp.int32)}
    params, model_state = model.init(jax.random.key(0), inputs[:1])
    tx = optax.sgd(0.1, momentum=0.9)
    state = (params, model_state, tx.init(params))

    def loss_fn(params, model_state, data, rng):
        outputs, new = model.forward(params, model_state, data["inputs"], train=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            outputs["logits"], data["label"]
        )
        return losses, {"model_state": new}

    def cc_sam(params, model_state, data, rng):
        outputs, new = model.forward(params, model_state, data["inputs"], train=True)
        losses = sharpness.cc_sam(
            outputs["features"],
            params["head"]["kernel"],
            params["head"]["bias"],
            data["label"],
            CLASS_COUNTS,
            nu=0.01,
            max_rho=1.0,
        )
        return losses, {"model_state": new}

    def lowered(make_terms: Callable, options: dict, loss_fn: Callable = loss_fn):
        value_and_grad = sharpness.sharp_value_and_grad(loss_fn, **options)

        @jax.jit
        def step(state, data):
            params, model_state, opt_state = state
            out, gradient = value_and_grad(
                params, model_state, data, None, make_terms()
            )
            updates, opt_state = tx.update(gradient, opt_state, params)
            return optax.apply_updates(params, updates), out.model_state, opt_state

        return step.lower(state, data)

    cases = rules(labels, model.rows_independent)
    cases["cc_sam"] = (*cases["plain"], cc_sam)
    steps = {name: lowered(*cases[name]) for name in names or cases}
    return steps, state, data


def measure(
    model_name: str, norm: str, batch: int, shape: tuple[int, ...], repeats: int
) -> list[dict[str, str]]:
    steps, state, data = prepare(model_name, norm, batch, shape)
    programs = {}
    for name, step in steps.items():
        program = step.compile()
        programs[name] = program, program.cost_analysis()["flops"]
    baseline, baseline_flops = programs["plain"]
    ratios = common.interleaved_ratios(
        lambda: baseline(state, data),
        {name: lambda p=p: p(state, data) for name, (p, _) in programs.items()},
        repeats=repeats,
    )
    origin = common.provenance()
    return [
        {
            "rule": name,
            "model": model_name,
            "norm": norm,
            "batch": str(batch),
            "flops_ratio": f"{programs[name][1] / baseline_flops:.3f}",
            **ratio.columns(),
            **origin,
        }
        for name, ratio in ratios.items()
    ]


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="sharpness.csv")
    parser.add_argument("--model", default="resnet32", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=128, help="default: %(default)s")
    args = parser.parse_args()
    name, batch, shape = args.model, args.batch, (32, 32, 3)
    if args.quick:
        name, batch, shape = "conv2d", 32, (28, 28, 1)
    for norm in ("batch", "group"):
        repeats = args.repeats or (3 if args.quick else 15)
        rows = measure(name, norm, batch, shape, repeats)
        for row in rows:
            print(
                f"{row['model']} {row['norm']:6} {row['rule']:24}"
                f" time {row['ratio']:>6}  ({row['ratio_low']} to {row['ratio_high']})"
                f"  operations {row['flops_ratio']:>6}  {row['milliseconds']:>9} ms"
            )
        if not args.quick:
            common.append_csv(args.output, rows)


if __name__ == "__main__":
    main()
