r"""DRAUC: the min-max AUC under the worst inputs within a mean budget.

.. math:: \min_{w, a, b} \max_{\alpha \ge 0} \min_{\lambda \ge 0}\; \lambda \epsilon
          + \mathrm{mean}_i \max_{\delta_i} \big[
          g(w, a, b, \alpha; x_i + \delta_i, y_i)
          - \lambda \lVert \delta_i \rVert^2 \big]

with the function g of an example whose mean is the loss of `aucm`. Before every step
the attack moves the inputs of the batch: T normalized gradient steps from a random
point, with w, a, b and alpha fixed and the network in evaluation mode; its last iterate
is trained on. Every `period` steps :math:`\lambda \leftarrow (\lambda - \eta (\epsilon
- \mathrm{mean} \lVert \delta \rVert^2))_+`. Distribution-aware, the classes have
multipliers and budgets of their own, which average to the same
(`ltjax.losses.drauc_radii`).

References:
    Dai et al., "DRAUC: An Instance-wise Distributionally Robust AUC Optimization
    Framework", NeurIPS 2023, definitions. The released code lets lambda become
    negative, compares the budget with a mean absolute value, penalizes the whole
    batch's norm and multiplies the negatives' radius by epsilon twice; none of this
    happens here. Budgets are squared radii, as costs are squared distances.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax.losses import drauc_radii
from ltjax.methods.method import Method, MethodFacts, Setting
from ltjax.methods.ranking import aucm, saddle
from ltjax.methods.ranking.saddle import SaddleOptions
from ltjax.options import Component, ConfigError, live, option


@dataclasses.dataclass(frozen=True)
class DRAUCOptions(SaddleOptions):
    """Of distributionally robust AUC; lengths are in units of the network's inputs."""

    radius: float = option(
        0.5, "r; the budget of a squared distance is r^2", low=0, sweep=True
    )
    ratio: float = option(
        1.0, "k, the positives' share of the budget, when aware", low=0, sweep=True
    )
    aware: bool = option(False, "whether the classes have budgets of their own")
    steps: int = option(10, "T, of the attack; 0 = none", low=0)
    attack_lr: float = option(15 / 255, "length of a step", low=0, sweep=True)
    multiplier: float = option(1.0, "lambda at the start", low=0)
    multiplier_lr: float = option(0.1, "eta of lambda", low=0, sweep=True)
    period: int = option(10, "steps between updates of lambda", low=1)
    box: tuple[float, ...] = option(
        (), "smallest and largest input, such as (0, 1); () = unbounded"
    )

    def __post_init__(self):
        if self.box and (len(self.box) != 2 or self.box[0] >= self.box[1]):
            raise ValueError(f"box is {self.box}, expected () or (low, high)")


def squared_norms(x: jax.Array) -> jax.Array:
    """[B], over all axes but the first."""
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))


def scaled(factors: jax.Array, x: jax.Array) -> jax.Array:
    """Rows of x [B, ...] times [B] factors."""
    return factors.reshape(-1, *[1] * (x.ndim - 1)) * x


def first_move(key: jax.Array, x: jax.Array, radii: jax.Array) -> jax.Array:
    """A random direction of a random length up to each row's radius."""
    direction, length = jax.random.split(key)
    raw = jax.random.normal(direction, x.shape, x.dtype)
    size = radii * jax.random.uniform(length, radii.shape, x.dtype)
    return scaled(size / (jnp.sqrt(squared_norms(raw)) + 1e-10), raw)


def drauc(options: DRAUCOptions, setting: Setting) -> Method:
    """Robust AUC for two classes: `aucm` on attacked inputs.

    Args:
        options: see `DRAUCOptions`.
        setting: the network "main", loss (of the warm-up) and rule.

    Returns:
        A `Method` whose state also holds lambda and the costs since its last update,
        [2] each, of the negatives and the positives.

    Raises:
        ConfigError: if there are not two classes.
    """
    if setting.num_classes != 2:
        raise ConfigError(
            [
                f"method 'drauc' is for two classes, but there are"
                f" {setting.num_classes}; expected config.data.positive_from to make"
                " them two"
            ]
        )
    plain, network = aucm.aucm(options, setting), setting.networks["main"]
    share = float(setting.class_counts[1] / setting.class_counts.sum())

    def budgets(now: DRAUCOptions) -> jax.Array:
        """[2] epsilon of the negatives and the positives."""
        budget = jnp.square(jnp.asarray(now.radius, jnp.float32))
        if not options.aware:
            return jnp.stack([budget, budget])
        up, down = drauc_radii(share, radius=budget, ratio=now.ratio)
        # A ratio above 1 / p leaves the negatives nothing.
        return jnp.maximum(jnp.stack([down, up]), 0.0)

    def boxed(x, move):
        if not options.box:
            return move
        return jnp.clip(x + move, *options.box) - x

    def init(key, params, model_state):
        state = plain.init(key, params, model_state)
        zeros = jnp.zeros(2, jnp.float32)
        multiplier = jnp.full(2, options.multiplier, jnp.float32)
        return {**state, "lambda": multiplier, "cost": zeros, "count": zeros}

    def prepare(state, batch, *, key, program):
        now = live("method", options, state.hyper)
        x, labels, mask = batch["inputs"], batch["label"], batch["mask"]
        if not options.steps:
            return state.method_state, {**batch, "cost": jnp.zeros(len(x), x.dtype)}
        # Padding may hold anything.
        x = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
        penalty = state.method_state["lambda"][labels]
        duals = saddle.duals_of(state)

        def objective(move):
            outputs, _ = network.forward(
                state.params, state.model_state, x + move, train=False
            )
            found = saddle.saddle_loss(
                setting, now, outputs["logits"], labels, duals, mask
            )
            gain = found.values - penalty * squared_norms(move)
            return jnp.sum(jnp.where(mask, gain, 0.0))

        def ascend(move, _):
            slope = jax.grad(objective)(move)
            step = now.attack_lr / (jnp.sqrt(squared_norms(slope)) + 1e-10)
            return boxed(x, move + scaled(step, slope)), None

        start = boxed(x, first_move(key, x, jnp.sqrt(budgets(now))[labels]))
        move, _ = jax.lax.scan(ascend, start, length=options.steps)
        cost = squared_norms(move)
        return state.method_state, {**batch, "inputs": x + move, "cost": cost}

    def loss(params, state, batch, *, key, program):
        losses, aux = plain.loss(params, state, batch, key=key, program=program)
        cost, mask = batch["cost"], batch["mask"]
        aux["metrics"]["attack_cost"] = (jnp.sum(cost * mask), jnp.sum(mask))
        return losses, aux

    def update(state, batch, aux):
        old, now = state.method_state, live("method", options, state.hyper)
        classes = jnp.where(batch["mask"], batch["label"], 2)
        cost = old["cost"].at[classes].add(batch["cost"], mode="drop")
        count = old["count"].at[classes].add(1.0, mode="drop")
        # One budget for all: both entries go by the mean over both classes.
        pooled = (jnp.sum(cost), jnp.sum(count))
        total, number = (cost, count) if options.aware else pooled
        mean = total / jnp.maximum(number, 1)
        slope = jnp.where(number > 0, budgets(now) - mean, 0.0)
        moved = jnp.maximum(old["lambda"] - now.multiplier_lr * slope, 0.0)
        due = state.step % options.period == 0
        return {
            **plain.update(state, batch, aux),
            "lambda": jnp.where(due, moved, old["lambda"]),
            "cost": jnp.where(due, 0.0, cost),
            "count": jnp.where(due, 0.0, count),
        }

    return plain._replace(init=init, prepare=prepare, loss=loss, update=update)


DRAUC = Component(
    "AUC under attacked inputs within a mean budget (Dai 2023)",
    DRAUCOptions,
    drauc,
    facts=lambda options: MethodFacts(
        reads_weights=False, couples_batch=True, one_array=True
    ),
)
