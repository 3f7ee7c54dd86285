"""Features of a frozen backbone, computed once instead of at every step."""

from ltjax.data.features import feature_feed
from ltjax.train import optim
from ltjax.train.evaluate import make_collector
from ltjax.train.lanes import Lanes
from ltjax.train.run import Run
from ltjax.train.state import TrainState


def reuses_features(run: Run) -> bool:
    """Whether a training example has the same features at every step.

    So it is if nothing of the backbone trains, its batch statistics stay, and neither
    augmentation nor method changes the inputs, unless `config.cache_features` is off.
    """
    config = run.config
    optimizer = config.optimizer.options
    return (
        config.cache_features
        and run.model.embed is not None
        and run.deterministic
        and config.method.facts.takes_features
        and not run.companions
        and not optim.trains_features(optimizer)
        and optimizer.bn_mode == "frozen"
    )


def extract_features(run: Run, state: TrainState, lanes: Lanes) -> Run:
    """`run` with a feed of the training set's features, as `state` has them.

    Args:
        run: for which `reuses_features` holds.
        state: its start, [R, ...].
        lanes: its replicas.

    Returns:
        The run; only what it trains on has changed.
    """

    def embed(state, batch, extra):
        assert run.model.embed is not None  # as `reuses_features` holds
        features = run.model.embed(state.params, state.model_state, batch["inputs"])
        return features, batch["label"]

    features, labels = make_collector(embed, run.train_set, lanes)(state)
    return run._replace(feed=feature_feed(features, labels[0]))
