"""How well a diffusion network tells noise from image, by noise level."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.losses.denoising import denoising, noised
from ltjax.methods.diffusion.process import Diffusion
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class DenoisingOptions:
    """Of the error of the predicted noise."""

    levels: int = option(5, "noise levels, evenly over all steps", low=1)
    seed: int = option(0, "of the noise", low=0, below=2**31)


def diffusion_of(caller: str, setting: EvaluatorSetting) -> Diffusion:
    """The diffusion network of a run.

    Raises:
        ValueError: if its method has none.
    """
    if "diffusion" not in setting.parts:
        raise ValueError(
            f"{caller}: the run's method has no diffusion network, expected config."
            "method.name to be 'denoising' or 'diffusion_features'"
        )
    return setting.parts["diffusion"]


def make(options: DenoisingOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "denoising_loss" and "denoising_loss_<t>" of each level, unprompted.

    Each example has noise of its own, by its index.

    Args:
        options: see `DenoisingOptions`.
        setting: of a run with a diffusion network.

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if the method has no such network.
    """
    diffusion = diffusion_of("denoising", setting)
    shares = np.arange(1, options.levels + 1) / (options.levels + 1)
    times = np.unique(np.maximum(np.rint(shares * diffusion.steps), 1).astype(int))

    def judge(state, sums, batch, extra):
        base, x = jax.random.key(options.seed), batch["inputs"]
        keys = jax.vmap(lambda index: jax.random.fold_in(base, index))(batch["index"])
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
        speak = diffusion.steer("none", state, x)
        total, count = sums

        def at_level(level):
            time, kept = level
            told, _ = speak(noised(x, noise, kept), time)
            return jnp.sum(denoising(told["noise"], noise, where=batch["mask"]))

        levels = (jnp.asarray(times), jnp.asarray(diffusion.kept[times], jnp.float32))
        return total + jax.lax.map(at_level, levels), count + jnp.sum(batch["mask"])

    def arrays(found, extra, about):
        total, count = (np.asarray(part, np.float64) for part in found)
        losses = total / count[:, None]
        title = "denoising loss by noise level"
        profile = {f"profiles/{title}/{t}": losses[:, k] for k, t in enumerate(times)}
        return {"denoising_losses": losses, **profile}

    def summarize(arrays):
        losses = arrays["denoising_losses"]
        each = {f"denoising_loss_{t}": losses[:, k] for k, t in enumerate(times)}
        return {"denoising_loss": losses.mean(axis=1), **each}

    empty = (jnp.zeros(len(times)), jnp.zeros((), jnp.int32))
    return Evaluator(
        judge=Sweep(judge, empty),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column(
                "denoising_loss",
                "Denoising loss",
                "min",
                f"mean squared error of the noise over {len(times)} levels",
            ),
        ),
        judged="denoising_loss",
    )


DENOISING = Component("error of the predicted noise by level", DenoisingOptions, make)
