r"""Co-teaching: two networks, each trained on the small losses of the other.

.. math:: \frac{1}{|P_b|} \sum_{i \in P_b} \ell(f_a(x_i), \tilde y_i)
          + \frac{1}{|P_a|} \sum_{i \in P_a} \ell(f_b(x_i), \tilde y_i), \qquad
          |P| = \lfloor (1 - R)\, B \rfloor

with P_a the rows on which f_a has the smallest losses, and R rising to the rate of
wrong labels over the first epochs. f_a predicts. A sharp gradient perturbs both
networks at once, as one point of their joint space.

References:
    Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely
    Noisy Labels", NeurIPS 2018. The released code divides the mean of the kept losses
    by their number once more; we do not. R takes its ten equal steps.
"""

import dataclasses

import jax

from ltjax.methods import labelled
from ltjax.methods.method import Method, MethodFacts, Part, Setting
from ltjax.methods.noisy_label.kept import kept_metrics
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import forget_rate_schedule, small_loss

PEER = "peer"
OTHER = {"label": PEER, PEER: "label"}


@dataclasses.dataclass(frozen=True)
class CoTeachingOptions:
    """Of co-teaching."""

    noise_rate: float = option(
        0.4, "rho, share of the labels taken for wrong", low=0, high=1, sweep=True
    )
    ramp: int = option(10, "epochs until that share is dropped", low=2)


def coteaching(options: CoTeachingOptions, setting: Setting) -> Method:
    """Co-teaching of "main" and "peer", with any loss and class weights.

    Args:
        options: see `CoTeachingOptions`.
        setting: the networks "main" and "peer", `loss`, `weights` and `rule`.

    Returns:
        A `Method` without a state of its own.
    """
    networks, rule = setting.networks, setting.rule

    def kept(state, batch, losses):
        """Loss -> the rows that it counts for: those that the other network selects."""
        rate = forget_rate_schedule(
            state.step // setting.steps_per_epoch,
            noise_rate=live("method", options, state.hyper).noise_rate,
            ramp=options.ramp,
        )
        return {
            name: small_loss(losses[OTHER[name]], forget_rate=rate, where=batch["mask"])
            for name in losses
        }

    def loss(params, state, batch, *, key, program):
        model_state, outputs, losses = state.model_state, {}, {}
        for name, role in (("label", "main"), (PEER, PEER)):
            key, own = jax.random.split(key)
            made, model_state = networks[role].forward(
                params,
                model_state,
                batch["inputs"],
                train=True,
                rngs={"dropout": own},
                mask=batch["mask"] if setting.padded else None,
            )
            context = labelled.loss_context(
                setting, state, params, model_state, mask=batch["mask"], role=role
            )
            losses[name] = labelled.label_loss(
                setting, state, made, batch["label"], context
            )
            outputs[name] = made
        metrics = {"accuracy": labelled.accuracy(outputs["label"], batch)}
        metrics |= kept_metrics(kept(state, batch, losses)["label"], batch)
        aux = {
            "model_state": model_state,
            "outputs": outputs["label"],
            "rows": losses,
            "metrics": metrics,
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        labels = batch["label"]
        parts = {
            name: Part(labels, labelled.base_weights(setting, state, labels, chosen))
            for name, chosen in kept(state, batch, aux["rows"]).items()
        }
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss, terms=terms, predict=labelled.prediction(setting), class_part="label"
    )


COTEACHING = Component(
    "Co-teaching: two networks select small losses for each other (Han 2018)",
    CoTeachingOptions,
    coteaching,
    facts=lambda options: MethodFacts(couples_batch=True, peers=(PEER,)),
)
