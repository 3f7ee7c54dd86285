"""Features of a frozen backbone, computed once instead of at every step."""

from ltjax.data import augment
from ltjax.data.features import feature_feed
from ltjax.train import optim
from ltjax.train.build import Run
from ltjax.train.evaluate import make_collector
from ltjax.train.mesh import Layout
from ltjax.train.state import TrainState


def reuses_features(run: Run) -> bool:
    """Whether a training example has the same features at every step.

    So it is if nothing of the backbone trains, its batch statistics stay, and there is
    no augmentation (mixup included), unless `config.cache_features` is off.
    """
    config = run.config
    return (
        config.cache_features
        and run.model.embed is not None
        and not optim.trains_backbone(config.optimizer)
        and config.optimizer.bn_mode == "frozen"
        and config.data.augment in augment.DETERMINISTIC
        and not config.loss.mixup
    )


def extract_features(run: Run, state: TrainState, layout: Layout, mode: str) -> Run:
    """`run` with a feed of the training set's features, as `state` has them.

    Args:
        run: for which `reuses_features` holds.
        state: its start, [R, ...].
        layout: of the devices.
        mode: see `ltjax.train.step.over_replicas`.

    Returns:
        The run; only what it trains on has changed.
    """

    def embed(state, batch):
        assert run.model.embed is not None  # as `reuses_features` holds
        features = run.model.embed(state.params, state.model_state, batch["inputs"])
        return features, batch["label"]

    collect = make_collector(
        embed,
        run.train_set,
        count=len(run.info.replicas),
        layout=layout,
        mode=mode,
        batch_size=run.config.eval_batch_size,
    )
    features, labels = collect(state)
    return run._replace(feed=feature_feed(features, labels[0]))
