"""What a trained diffusion network says of images: noise, activations, regenerations.

A technique steers the network back to the image that was noised: by its class, by a
guess of it, by its edges, or by weights that were tuned on the data.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses.denoising import ddim_step, denoising, noised
from ltjax.methods.method import averaged
from ltjax.metrics import sobel_edges


class Technique(NamedTuple):
    """How the network is steered.

    Attributes:
        label: what it is told: "" for nothing, "given" or "guessed".
        module: top-level module of the network that it needs, or "".
    """

    label: str = ""
    module: str = ""


TECHNIQUES: dict[str, Technique] = {
    "none": Technique(),
    "prompt": Technique(label="given"),
    "pseudo": Technique(label="guessed"),
    "control": Technique(module="control"),
    "low_rank": Technique(module="low_rank"),
}


def is_layer(name: str) -> bool:
    """Whether a tapped place is the end of a level of the network."""
    return name == "bottom" or (name.startswith("up") and "/" not in name)


def regenerate(predict: Any, noisy: jax.Array, kept: np.ndarray) -> jax.Array:
    """Deterministic DDIM from one noise level down to none.

    Args:
        predict: (x [B, ...], place) -> noise [B, ...]; `place` counts the levels.
        noisy: [B, ...] at the first level.
        kept: [S + 1] the levels, from the first one to 1.

    Returns:
        [B, ...].
    """
    levels = jnp.asarray(kept, jnp.float32)

    def body(x, place):
        told = predict(x, place)
        return ddim_step(x, told, levels[place], levels[place + 1]), None

    return jax.lax.scan(body, noisy, jnp.arange(len(kept) - 1))[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Diffusion:
    """A network with its noise levels.

    All noise is the same for every image of a call, so that what is said of one does
    not depend on its batch; `key` decides it, and pairs techniques.

    Attributes:
        network: the `ltjax.models.Model`, with the outputs "noise" and "features".
        kept: [T + 1] from `ltjax.losses.noise_schedule`.
        num_classes: K, of the labels that are guessed.
        ema: whether the averaged parameters speak.
    """

    network: Any
    kept: np.ndarray
    num_classes: int
    ema: bool = False

    @property
    def steps(self) -> int:
        """T."""
        return len(self.kept) - 1

    def asked(
        self,
        technique: str,
        images: jax.Array,
        labels: jax.Array | None,
        params: Mapping[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(inputs besides image and time, options of `forward`) of a technique.

        Raises:
            ValueError: if the network lacks what the technique needs.
        """
        chosen = TECHNIQUES[technique]
        if chosen.module and chosen.module not in params:
            raise ValueError(
                f"technique {technique!r} needs a network with the module"
                f" {chosen.module!r}, expected config.model.{chosen.module} to be set"
            )
        asked = {} if not chosen.label else {"label": labels}
        if chosen.module == "control":
            asked["control"] = sobel_edges(images)[..., None]
        return asked, {"low_rank": True} if chosen.module == "low_rank" else {}

    def labels(self, technique: str, state: Any, images, given=None, *, key) -> Any:
        """[B] the label that a technique tells of each image, or None."""
        source = TECHNIQUES[technique].label
        if source == "guessed":
            return self.guess(state, images, key=key)
        return given if source else None

    def steer(self, technique: str, state: Any, images, labels=None) -> Any:
        """`speak(x, time) -> (outputs, activations)` of the steered network.

        Args:
            technique: a key of `TECHNIQUES`.
            state: of the run.
            images: [B, H, W, C] that it is steered to.
            labels: of `Diffusion.labels`.
        """
        params, model_state = averaged(state, ema=self.ema)
        more, options = self.asked(technique, images, labels, params)

        def speak(x, time):
            seen: dict[str, jax.Array] = {}

            def tap(name: str, value: jax.Array) -> jax.Array:
                seen[name.removeprefix("backbone/")] = value
                return value

            time = jnp.full(len(x), time, jnp.int32)
            outputs, _ = self.network.forward(
                params,
                model_state,
                {"image": x, "time": time, **more},
                train=False,
                tap=tap,
                **options,
            )
            layers = {name: seen[name] for name in seen if is_layer(name)}
            return outputs, {**layers, "last": outputs["features"]}

        return speak

    def activations(
        self, state: Any, images, labels, *, technique: str, time: int, key, draws: int
    ) -> dict[str, jax.Array]:
        """Layer -> [B, h, w, c], the mean over draws of the noise at a time step.

        `labels` are those of `Diffusion.labels`. Layers are "bottom", "up<k>" from the
        smallest level to "up0", and "last"; at time 0 there is no noise.
        """
        speak = self.steer(technique, state, images, labels)

        def of_draw(number):
            noise = self.noise(jax.random.fold_in(key, number), images)
            return speak(noised(images, noise, self.kept[time]), time)[1]

        found = jax.lax.map(of_draw, jnp.arange(draws if time else 1))
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)

    def regeneration(
        self, state: Any, images, labels, *, technique: str, strength, steps: int, key
    ) -> jax.Array:
        """Images [B, H, W, C], noised up to `strength` T and brought back by DDIM.

        Args:
            state: of the run.
            images: [B, H, W, C].
            labels: of `Diffusion.labels`.
            technique: a key of `TECHNIQUES`.
            strength: share of T in [0, 1]; 0 gives the images themselves.
            steps: of DDIM.
            key: of the noise.
        """
        times = np.rint(np.linspace(strength * self.steps, 0, steps + 1)).astype(int)
        speak = self.steer(technique, state, images, labels)
        places = jnp.asarray(times)
        kept = self.kept[times]
        noisy = noised(images, self.noise(key, images), kept[0])
        return regenerate(
            lambda x, place: speak(x, places[place])[0]["noise"], noisy, kept
        )

    def noise(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """The same noise for every image, [B, H, W, C]."""
        one = jax.random.normal(key, images.shape[1:], jnp.float32)
        return jnp.broadcast_to(one[None], images.shape)

    def guess(self, state: Any, images, *, key, share: float = 0.3) -> jax.Array:
        """[B] the class whose prompt explains the noise of each image best.

        References:
            Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", ICCV
            2023, at one time step, a share of T, with one noise.
        """
        time = round(share * self.steps)
        noise = self.noise(jax.random.fold_in(key, 2**16), images)
        noisy = noised(images, noise, self.kept[time])

        def error(label):
            labels = jnp.full(len(images), label)
            told = self.steer("prompt", state, images, labels)(noisy, time)[0]
            return denoising(told["noise"], noise)

        return jnp.argmin(jax.lax.map(error, jnp.arange(self.num_classes)), axis=0)
