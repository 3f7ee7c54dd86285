"""A trained network, read from its workdir, on inputs that nobody has labelled."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.arrays import check_finite
from ltjax.data.modalities import (
    batch_of,
    check_names,
    each_modality,
    element_of,
    told,
)
from ltjax.data.signature import Signature
from ltjax.methods.method import averaged
from ltjax.serving.files import read_images
from ltjax.serving.priors import PRIORS, Prior, implied_prior, read_prior
from ltjax.train.config import TrainConfig
from ltjax.train.parts import Parts, make_predict
from ltjax.train.state import TrainState


class Predictor:
    """Predicts the classes of inputs as the data set delivered them.

    Made by `load`. The evaluation transform (scaling, normalization, center crop) is
    part of every prediction.

    Attributes:
        class_names: K names; "0", "1", ... where the data have none.
        class_counts: [K] int64, training examples of each class.
        input_shape: of one input; of several modalities a dict by name.
        input_dtype: of the inputs, uint8 (images) or float32; likewise.
        signature: what is known of the training examples.
        multi_label: whether an example has several labels, so that each class has a
            probability of its own, by the sigmoid. Otherwise they sum to 1.
        trained_prior: [K], the prior under which the network's own logits are a
            posterior (`ltjax.serving.priors`); None if its loss leaves none.
        step: of the checkpoint.
        output_shape: of one prediction, (K,), or (H, W, K) where every pixel has one.
        name: of the run.
        config: of the run.
        model: the network, an `ltjax.models.Model`.
        params: of the network, as it predicts (averaged, if the run says so).
        model_state: likewise, batch statistics.
    """

    def __init__(
        self,
        config: TrainConfig,
        facts: Mapping[str, Any],
        signature: Signature,
        parts: Parts,
        state: TrainState,
        *,
        batch_size: int,
    ):
        self.config = config
        self.name: str = facts["method"]
        self.step = int(state.step)
        self.signature = signature
        self.input_shape = signature.shape
        self.input_dtype = each_modality(np.dtype, signature.dtype)
        self._element = element_of(signature.shape, self.input_dtype)
        self.class_counts = np.asarray(signature.class_counts, np.int64)
        names = facts.get("class_names") or map(str, range(len(self.class_counts)))
        self.class_names: tuple[str, ...] = tuple(names)
        self.multi_label: bool = config.method.facts.multi_label
        self.trained_prior = implied_prior(parts.method, parts.sampler, state)
        self.model = parts.setting.networks["main"]
        self.params, self.model_state = averaged(state, ema=config.evaluate_ema)
        self._batch_size = batch_size
        self._state = state
        # Placed like the others, or another prior would be compiled anew.
        own = {
            name: jax.device_put(jnp.float32(value), state.step.sharding)
            for name, value in config.method.facts.uncorrected.items()
        }
        self._own = state.replace(hyper={**state.hyper, **own})
        predict = make_predict(parts.method, parts.pipeline, parts.train)

        multi_label = self.multi_label

        def outputs(state, inputs, shift):
            """(logits, probabilities)."""
            logits = predict(state, inputs)["logits"]
            logits += jnp.expand_dims(shift, range(logits.ndim - 1))
            if multi_label:
                return logits, jax.nn.sigmoid(logits)
            return logits, jax.nn.softmax(logits, axis=-1)

        self._outputs = outputs
        self._compiled = jax.jit(outputs)
        self._check_logits(predict)

    def _check_logits(self, predict) -> None:
        """Refuses a run whose method does not say which class an input is of."""
        sample = batch_of(self._element, 1)
        outputs = jax.eval_shape(predict, self._state, sample)
        classes = len(self.class_names)
        if "logits" not in outputs or outputs["logits"].shape[-1] != classes:
            raise ValueError(
                f"load: the run {self.name!r} has method {self.config.method.name!r},"
                f" which predicts {', '.join(sorted(outputs))} but not the logits of"
                f" {classes} classes; expected a run that was trained to tell them"
                " apart, such as a stage that starts from this one"
            )
        self.output_shape = outputs["logits"].shape[1:]

    def __repr__(self) -> str:
        inputs = told(self._element, letter="N")
        return (
            f"Predictor({self.name!r}, step {self.step}, {len(self.class_names)}"
            f" classes, inputs {inputs.replace(' of ', ' ')})"
        )

    def __call__(self, inputs: Any, *, prior: Prior | None = None) -> np.ndarray:
        """`probabilities(inputs, prior=prior)`."""
        return self.probabilities(inputs, prior=prior)

    def logits(self, inputs: Any) -> np.ndarray:
        """What the run's own evaluation sees.

        Args:
            inputs: see `probabilities`.

        Returns:
            [N, K] float32 (dense: [N, H, W, K]), post-hoc corrections of the method
            included.
        """
        shift = np.zeros(len(self.class_names), np.float32)
        return self._run(self.inputs(inputs), self._state, shift)[0]

    def probabilities(
        self,
        inputs: Any,
        *,
        prior: Prior | None = None,
        trained_prior: Prior | None = None,
    ) -> np.ndarray:
        r"""The probability of each class.

        Args:
            inputs: `[N, *input_shape]` of `input_dtype`, as the data set delivers
                them: neither scaled nor normalized. Or the path of an image, or a list
                of them, which are decoded, turned upright and brought to size as the
                training images were. Of several modalities a dict
                of arrays.
            prior: of the classes where the network is used. None: as the run predicts,
                without a correction. "uniform", "train", [K] numbers or a mapping from
                class names: the network's own logits become :math:`z_y + \log t_y -
                \log q_y`, with q the prior that training implies
                (`ltjax.serving.priors`).
            trained_prior: q, in the same forms, for a run whose loss does not tell it.

        Returns:
            [N, K] float32 (dense: [N, H, W, K]), softmax of the logits; of a
            multi-label run the sigmoid.

        Raises:
            ValueError: for inputs of another shape, or a prior that cannot be used.
            TypeError: for inputs of another dtype.
            DataError: naming an input that is not finite, or an unreadable image.
        """
        state, shift = self.correction(prior, trained_prior)
        return self._run(self.inputs(inputs), state, shift)[1]

    def function(self, prior: Prior | None = None, trained_prior: Prior | None = None):
        """`probabilities` as a traceable function of a batch of inputs.

        Args:
            prior: see `probabilities`.
            trained_prior: likewise.

        Returns:
            inputs -> probabilities, with the parameters inside.
        """
        state, shift = self.correction(prior, trained_prior)
        return lambda inputs: self._outputs(state, inputs, shift)[1]

    def inputs(self, inputs: Any) -> Any:
        """Checked inputs: an array as it is, paths as the images that they name."""
        if isinstance(inputs, (str, os.PathLike)):
            inputs = [inputs]
        if isinstance(inputs, Sequence) and all(
            isinstance(one, (str, os.PathLike)) for one in inputs
        ):
            return read_images(inputs, self.signature)
        check_names("probabilities", inputs, self._element)
        checked = each_modality(_checked, self._element, inputs)
        sizes = {len(one) for one in jax.tree.leaves(checked)}
        if len(sizes) > 1:
            raise ValueError(
                f"probabilities: the modalities have {sorted(sizes)} rows, expected the"
                " same number"
            )
        return checked

    def correction(
        self, prior: Prior | None, trained_prior: Prior | None = None
    ) -> tuple[TrainState, np.ndarray]:
        """(state, shift [K]) that give the logits under a prior."""
        classes = len(self.class_names)
        if prior is None:
            if trained_prior is not None:
                raise ValueError(
                    "probabilities: trained_prior is given without a prior, expected"
                    " both"
                )
            return self._state, np.zeros(classes, np.float32)
        told = ("probabilities", "prior", prior, self.class_counts, self.class_names)
        target = read_prior(*told)
        if self.multi_label:
            raise ValueError(
                f"probabilities: prior is {prior!r}, but the classes of a multi-label"
                " run do not share one probability, expected None"
            )
        implied = self.trained_prior
        if trained_prior is not None:
            told = ("probabilities", "trained_prior", trained_prior, *told[3:])
            implied = read_prior(*told)
            if not implied.all():
                never = self.class_names[int(np.argmin(implied))]
                raise ValueError(
                    f"probabilities: trained_prior is 0 for class {never!r}, expected"
                    " numbers > 0: a class without a prior has no posterior to correct"
                )
        if implied is None:
            raise ValueError(
                f"probabilities: prior is {_brief(prior)}, but the loss of the run"
                f" {self.name!r} does not tell which prior its logits imply; expected"
                f" None, or trained_prior as well ({' or '.join(map(repr, PRIORS))}"
                " where that is a fair guess)"
            )
        with np.errstate(divide="ignore"):  # a class that cannot occur
            shift = np.log(target) - np.log(implied)
        return self._own, shift.astype(np.float32)

    def _run(
        self, inputs: Any, state: TrainState, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(logits, probabilities) [N, ...], in batches of few different sizes.

        Fewer inputs than a batch are padded to a power of two, so that calls with any
        number of inputs compile a handful of programs.
        """
        count = len(jax.tree.leaves(inputs)[0])
        size = min(self._batch_size, 1 << max(count - 1, 0).bit_length())
        parts = []

        def padded(rows):
            return np.pad(rows, ((0, size - len(rows)), *((0, 0),) * (rows.ndim - 1)))

        for start in range(0, max(count, 1), size):
            rows = each_modality(lambda x, k=start: padded(x[k : k + size]), inputs)
            parts.append(jax.device_get(self._compiled(state, rows, shift)))
        logits, probabilities = zip(*parts, strict=True)
        return np.concatenate(logits)[:count], np.concatenate(probabilities)[:count]


def _checked(element: Any, given: Any) -> np.ndarray:
    """A batch of one modality, or of the only one."""
    inputs, shape, dtype = np.asarray(given), element.shape, element.dtype
    wanted = told(element, letter="N")
    if inputs.shape[1:] != shape or inputs.ndim != len(shape) + 1:
        hint = ""
        if inputs.shape == shape:
            hint = "; for a single input, inputs[None]"
        elif inputs.ndim == 4 and inputs.shape[1:] == (*shape[2:], *shape[:2]):
            hint = "; channels are the last axis"
        raise ValueError(
            f"probabilities: inputs have shape {inputs.shape}, expected {wanted}{hint}"
        )
    floats = np.issubdtype(inputs.dtype, np.floating)
    if dtype == np.uint8 and inputs.dtype != np.uint8:
        hint = " (the network scales and normalizes them itself)" if floats else ""
        raise TypeError(
            f"probabilities: inputs have dtype {inputs.dtype}, expected {wanted}:"
            f" pixels as they are stored, 0 to 255{hint}"
        )
    if dtype != np.uint8 and not floats:
        raise TypeError(
            f"probabilities: inputs have dtype {inputs.dtype}, expected {wanted}"
        )
    inputs = inputs.astype(dtype, copy=False)
    check_finite("probabilities", inputs)
    return inputs


def _brief(prior: Prior) -> str:
    return repr(prior) if isinstance(prior, str) else "given"
