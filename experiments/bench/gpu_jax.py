"""The GPU benchmark in JAX, `python -m experiments.bench.gpu_jax SECTION`.

A process per section, started by `gpu.py`; every line of its output is a row. Programs
are traced one after the other and compiled together, and only then timed.
"""

import concurrent.futures
import contextlib
import functools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import jaxprs_in_params

import ltjax.losses as losses
from experiments.bench import auc, engine, sharpness
from experiments.bench.gpu_timing import (
    Subject,
    chosen_section,
    failed,
    in_turn,
    say,
    timed_cells,
)
from ltjax.train.build import build

MIB = 2**20


class Sizes(NamedTuple):
    """What is measured, at full size or as a toy."""

    recipe: engine.Case
    num_images: int
    replicas: tuple[int, ...]
    chunks: tuple[int, ...]  # steps per call
    large: engine.Case
    large_images: int
    views: tuple[int, ...]
    blocks: tuple[int, ...]
    network: tuple[str, str, int, tuple[int, ...]]  # arguments of sharpness.prepare
    rules: tuple[str, ...]
    pairs: tuple[int, ...]
    pixels: tuple[int, ...]
    timed_blocks: int
    seconds: float  # of the timed blocks of a group


FULL = Sizes(
    recipe=engine.Case("resnet32", (32, 32, 3), 128, 1, 100),
    num_images=12_406,  # CIFAR-10-LT, ratio 100
    replicas=(4, 16),
    chunks=(10, 50),
    large=engine.Case("resnet50", (224, 224, 3), 256, 1, 10),
    large_images=1024,
    views=(16_384,),
    blocks=(512, 2048, 8192),
    network=("resnet32", "batch", 128, (32, 32, 3)),
    rules=(
        "plain",
        "sam",
        "asam",
        "imbsam",
        "sse_sam_stage1",
        "sse_sam_stage2",
        "cc_sam",
    ),
    pairs=(10_000, 100_000, 1_000_000),
    pixels=(8, 512, 512, 20),
    timed_blocks=7,
    seconds=5.0,
)
TOY = Sizes(
    recipe=engine.Case("conv1d", (40, 1), 8, 1, 4),
    num_images=32,
    replicas=(2,),
    chunks=(2,),
    large=engine.Case("conv1d", (40, 1), 4, 1, 2),
    large_images=16,
    views=(64,),
    blocks=(16,),
    network=("conv1d", "batch", 16, (40, 1)),
    rules=("plain", "cc_sam"),
    pairs=(200,),
    pixels=(1, 8, 8, 3),
    timed_blocks=3,
    seconds=0.0,
)
EPOCHS = 200
LOOPS = ("ltjax", "jax loop")  # the engine, and engine.HandWritten


class Traced(NamedTuple):
    """A program between tracing and timing.

    Attributes:
        cells: see `Subject`.
        lowered: traced; compiled by `timed`.
        call: compiled program -> function without arguments that runs and waits.
        steps: of a call.
        gflops: of a step.
    """

    cells: dict[str, Any]
    lowered: jax.stages.Lowered
    call: Callable[[Any], Callable[[], Any]]
    steps: int = 1
    gflops: float = 0.0


def device() -> str:
    return jax.devices()[0].device_kind


def traced(cells: dict, make: Callable[[], Traced]) -> Iterator[Traced]:
    """The program, with its `trace_s`; a row instead if it cannot be made."""
    start = time.perf_counter()
    try:
        made = make()
    except Exception as error:  # the others go on
        say(**failed(cells, error))
        return
    seconds = f"{time.perf_counter() - start:.2f}"
    yield made._replace(cells={**made.cells, "trace_s": seconds})


def compiled(programs: Sequence[Traced]) -> list[Subject]:
    """All programs compiled, at the same time; a row for each that fails."""

    def compile_one(program: Traced):
        start = time.perf_counter()
        made = program.lowered.compile()
        return made, time.perf_counter() - start

    ready = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(compile_one, program) for program in programs]
        for program, future in zip(programs, waiting, strict=True):
            try:
                made, seconds = future.result()
            except Exception as error:  # the others go on
                say(**failed(program.cells, error))
                continue
            cells = {
                **program.cells,
                "compile_s": f"{seconds:.2f}",
                "compiled_together": len(programs),
                **costs_of(made),
            }
            call = program.call(made)
            ready.append(Subject(cells, call, program.steps, program.gflops))
    return ready


def costs_of(made: jax.stages.Compiled) -> dict[str, str]:
    """What the compiler knows: its count of operations and its plan of memory."""
    cells = {}
    with contextlib.suppress(Exception):  # not every backend tells
        memory = made.memory_analysis()
        planned = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
        cells["peak_mib"] = f"{planned / MIB:.5g}"
    with contextlib.suppress(Exception):
        cells["xla_gflops"] = f"{made.cost_analysis()['flops'] / 1e9:.4g}"
    return cells


def timed(subjects: Sequence[Subject], sizes: Sizes) -> None:
    """Rows of subjects that are timed in turn; one that fails is left out."""
    working = []
    for subject in subjects:
        try:
            subject.call()
        except Exception as error:  # the others go on
            say(**failed(subject.cells, error))
        else:
            working.append(subject)
    if not working:
        return
    limits = {"blocks": sizes.timed_blocks, "seconds": sizes.seconds}
    for subject, times in zip(working, in_turn(working, **limits), strict=True):
        stats = jax.devices()[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        of_process = {"process_peak_mib": f"{peak / MIB:.5g}"} if peak else {}
        say(**timed_cells(subject, times, device()), **of_process)


def forward_gflops(fn: Callable, *args: Any) -> float:
    """Of the matrix products and convolutions of a function, which is only traced."""
    return _flops(jax.make_jaxpr(fn)(*args).jaxpr) / 1e9


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval
        name, options = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = options["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * out.size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[options["dimension_numbers"].rhs_spec[0]]
            total += 2 * out.size * math.prod(kernel) / outputs
        for inner in jaxprs_in_params(options):
            total += _flops(inner)
    return total


# ------------------------------------------------------------------------- sections


def recipe(
    case: engine.Case,
    folder: str,
    *,
    dtype: str,
    num_images: int,
    loop: str,
    steps_per_call: int = 1,
) -> tuple[dict[str, Any], Callable[[], Traced]]:
    """A step of the CIFAR recipe, by the engine or by the hand-written loop."""
    precision = {"float32": "tf32", "bfloat16": "bfloat16"}[dtype]
    cells = {
        "subject": case.model,
        "framework": loop,
        "precision": precision,
        "batch": case.batch,
        "replicas": case.replicas,
        "steps_per_call": steps_per_call,
        "examples": case.batch * case.replicas,
    }

    def make() -> Traced:
        options = {"num_images": num_images, "dtype": dtype}
        config = engine.config_of(case, folder, total=f"{EPOCHS} epochs", **options)
        run = build(config)
        if loop == "ltjax":
            trainer = engine.Ours(run, case.steps, steps_per_call)
        else:
            trainer = engine.HandWritten(run, case.steps)
        images = jax.ShapeDtypeStruct((case.batch, *case.shape), jnp.float32)
        one = run.info.replicas[0]
        state = jax.eval_shape(run.init, one["seed"], one["hyper"])
        forward = forward_gflops(
            functools.partial(run.model.forward, train=True),
            state.params,
            state.model_state,
            images,
        )
        if case.model == FULL.recipe.model:
            cells["total_steps"] = run.info.total_steps

        def ready(program):
            trainer.use(program)
            return trainer

        # Backward costs twice as much: a gradient of the input and one of the weights.
        gflops = 3 * forward * case.replicas
        return Traced(cells, trainer.lower(), ready, case.steps, gflops)

    return cells, make


def run_engine(sizes: Sizes) -> None:
    """The recipe: both dtypes, several steps per call, replicas."""
    case = sizes.recipe
    first = [(case, {"dtype": "float32", "loop": loop}) for loop in LOOPS]
    rest = [(case, {"dtype": "bfloat16", "loop": loop}) for loop in LOOPS]
    for dtype in ("float32", "bfloat16"):
        ours = {"dtype": dtype, "loop": "ltjax"}
        rest += [(case, {**ours, "steps_per_call": n}) for n in sizes.chunks]
        for count in sizes.replicas:
            steps = max(case.steps // (2 * count), 2)
            rest.append((case._replace(replicas=count, steps=steps), ours))
    # The first ones alone, so that their times are there whatever happens later.
    for part in (first, rest):
        with tempfile.TemporaryDirectory() as folder:
            programs: list[Traced] = []
            for chosen, options in part:
                options = {"num_images": sizes.num_images, **options}
                programs += traced(*recipe(chosen, folder, **options))
        time_in_groups(compiled(programs), sizes)


def time_in_groups(subjects: Sequence[Subject], sizes: Sizes) -> None:
    """Times in turn what differs in its loop or its steps per call only."""
    groups: dict[tuple, list[Subject]] = {}
    for subject in subjects:
        key = tuple(subject.cells[name] for name in ("precision", "replicas"))
        groups.setdefault(key, []).append(subject)
    for group in groups.values():
        timed(group, sizes)


def run_large(sizes: Sizes) -> None:
    """A network that fills the device, in bfloat16."""
    options = {"dtype": "bfloat16", "num_images": sizes.large_images}
    with tempfile.TemporaryDirectory() as folder:
        programs: list[Traced] = []
        for loop in LOOPS:
            programs += traced(*recipe(sizes.large, folder, loop=loop, **options))
    timed(compiled(programs), sizes)


def of_arrays(cells: dict, fn: Callable, *args: Any) -> Iterator[Traced]:
    """A function of arrays that are on the device; a step is a call."""

    def make() -> Traced:
        def ready(program):
            return lambda: jax.block_until_ready(program(*args))

        return Traced(cells, jax.jit(fn).lower(*args), ready)

    return traced(cells, make)


def run_contrastive(sizes: Sizes) -> None:
    """NT-Xent in blocks and all at once, value and gradient."""
    for views in sizes.views:
        first, second = jax.random.normal(jax.random.key(0), (2, views // 2, 128))
        programs: list[Traced] = []
        for block in (None, *sizes.blocks):
            cells = {
                "subject": f"nt_xent[{block or 'dense'}]",
                "framework": "ltjax",
                "precision": "float32",
                "size": views,
            }

            def risk(pair, block=block):
                return jnp.mean(losses.nt_xent(*pair, block=block))

            step = jax.value_and_grad(risk)
            programs += of_arrays(cells, step, (first, second))
        timed(compiled(programs), sizes)


def run_auc(sizes: Sizes) -> None:
    """Losses over pairs of scores, and the one over pairs of pixels."""
    for size in sizes.pairs:
        scores, labels = map(jnp.asarray, auc.binary(size))
        programs: list[Traced] = []
        for name, (loss, _) in auc.LOSSES.items():
            if name == "auc_logistic" and size > 100_000:
                continue  # has no closed form: 9e10 pairs
            cells = {"subject": name, "framework": "ltjax", "precision": "float32"}
            step = jax.value_and_grad(lambda s, y, loss=loss: jnp.mean(loss(s, y)))
            programs += of_arrays({**cells, "size": size}, step, scores, labels)
        timed(compiled(programs), sizes)
    logits = jax.random.normal(jax.random.key(0), sizes.pixels)
    classes = sizes.pixels[-1]
    labels = jax.random.randint(jax.random.key(1), sizes.pixels[:-1], 0, classes)
    cases = {
        "pixel_auc": losses.pixel_auc,
        "pixel cross-entropy": optax.softmax_cross_entropy_with_integer_labels,
    }
    programs = []
    for name, loss in cases.items():
        cells = {
            "subject": name,
            "framework": "ltjax" if name == "pixel_auc" else "optax",
            "precision": "float32",
            "size": "x".join(map(str, sizes.pixels)),
        }
        step = jax.value_and_grad(lambda z, y, loss=loss: jnp.mean(loss(z, y)))
        programs += of_arrays(cells, step, logits, labels)
    timed(compiled(programs), sizes)


def run_sharpness(sizes: Sizes) -> None:
    """Steps of the sharpness rules, in turn with the plain one."""
    model, norm, batch, _ = sizes.network
    steps, state, data = sharpness.prepare(*sizes.network, names=sizes.rules)

    def ready(program):
        return lambda: jax.block_until_ready([program(state, data) for _ in range(5)])

    programs = []
    for rule, lowered in steps.items():
        cells = {
            "subject": f"{model} {norm} {rule}",
            "framework": "ltjax",
            "precision": "tf32",
            "batch": batch,
        }
        programs.append(Traced(cells, lowered, ready, 5))
    timed(compiled(programs), sizes)


SECTIONS = {
    "engine": run_engine,
    "contrastive": run_contrastive,
    "sharpness": run_sharpness,
    "auc": run_auc,
    "large": run_large,
}


def main() -> None:
    measure_section, toy = chosen_section(__doc__, SECTIONS)
    platform = jax.devices()[0].platform
    say(origin=True, backend=platform, device=device(), devices=jax.device_count())
    with tempfile.TemporaryDirectory() as folder:
        if not toy:
            # Equal programs that start networks compile once; none that is timed does.
            jax.config.update("jax_compilation_cache_dir", folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        measure_section(TOY if toy else FULL)


if __name__ == "__main__":
    main()
