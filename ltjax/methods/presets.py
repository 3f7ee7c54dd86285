"""Named combinations of components, as papers use them.

A config file picks one with `apply_preset` and `apply_gradient` and sets what belongs
to its data. Hyper-parameters are those of the methods' CIFAR-10-LT settings, unless the
config file knows better.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ltjax.options import ConfigError, nearest

# Cross-entropy of unit features and unit class vectors cannot become confident: at
# scale 1 its smallest value for ten classes is 1.4 nats.
FRAME_SCALE = 10.0
LATE = "<late>"  # replaced by the config's own start of the late phase

_CB = {"weights": {"name": "class_balanced", "beta": 0.9999}}
_DRW = {
    "weights": {
        "name": "class_balanced",
        "beta": 0.9999,
        "start": LATE,
        "normalize": "weights",
    }
}
_POWER_DRW = {
    "weights": {
        "name": "inverse_power",
        "power": 0.15,
        "start": LATE,
        "normalize": "weights",
    }
}


def _decoupled(
    name: str, *, first: Mapping[str, Any] = MappingProxyType({}), **second: Any
) -> dict[str, Any]:
    """Two stages: plain training, then something of the head trained again.

    Kang et al. 2020: ten (LWS: five) epochs of class-balanced batches, cosine, no
    warm-up.
    """
    balanced = {
        "sampler": {"name": "class_balanced"},
        # By dotted name, so that a recipe's cosine by epoch stays one.
        "schedule.name": "cosine",
        "schedule.warmup": "0 steps",
    }
    return {
        "label": "CE",
        "stages": ({"name": "first", **first}, {"name": name, **second, **balanced}),
    }


_FIXED = {"head": {"name": "etf", "scale": FRAME_SCALE}}

# Section -> values; a section is made anew, a bare value is the engine's.
PRESETS: dict[str, dict[str, Any]] = {
    "ce": {"label": "CE"},
    "ce_drw": {"label": "CE-DRW", **_DRW},
    "focal": {"label": "Focal", "loss": {"name": "focal", "gamma": 1.0}},
    "cb": {"label": "CB", **_CB},
    "cb_focal": {
        "label": "CB-Focal",
        "loss": {"name": "sigmoid_focal", "gamma": 1.0},
        "optimizer.decay": "not_head_bias",
        **_CB,
    },
    "rw": {"label": "RW", "weights": {"name": "inverse_power", "power": 1.0}},
    "rs": {"label": "RS", "sampler": {"name": "class_balanced"}},
    "ldam": {"label": "LDAM", "loss": {"name": "ldam"}},
    "ldam_drw": {"label": "LDAM-DRW", "loss": {"name": "ldam"}, **_DRW},
    "ldam_drs": {
        "label": "LDAM-DRS",
        "loss": {"name": "ldam"},
        "sampler": {"name": "effective_number", "start": LATE},
    },
    "la": {"label": "LA", "loss": {"name": "la", "tau": 1.0}},
    "la_cb": {
        "label": "LA + CB-DRW",
        "loss": {"name": "la", "tau": 1.0},
        "weights": {**_DRW["weights"], "beta": 0.99},
    },
    "la_posthoc": {
        "label": "LA post hoc",
        "method": {"name": "supervised", "posthoc_tau": 1.0},
    },
    "balanced_softmax": {"label": "BS", "loss": {"name": "balanced_softmax"}},
    "cdt": {"label": "CDT", "loss": {"name": "cdt", "gamma": 0.2}},
    "vs": {
        "label": "VS",
        "loss": {"name": "vs", "gamma": 0.2, "tau": 1.2},
        "weights": {"name": "none", "normalize": "weights"},
    },
    "tla_adrw": {
        "label": "TLA+ADRW",
        "loss": {"name": "tla_adrw", "gamma": 0.05, "tau": 1.0, "tau_late": 1.0},
        **_POWER_DRW,
    },
    "cvs": {
        "label": "CVS",
        "loss": {"name": "cvs", "gamma": 0.15, "tau": 0.9},
        **_POWER_DRW,
    },
    "crt": _decoupled(
        "crt",
        label="cRT",
        total="10 epochs",
        **{"optimizer.train": "head", "init_skip": ("head",)},
    ),
    "lws": _decoupled(
        "lws",
        label="LWS",
        total="5 epochs",
        **{
            "head.class_scale": "ones",
            "optimizer.train": "class_scale",
            "init_skip": ("class_scale",),
        },
    ),
    # Zhong et al. 2021; the batch statistics of the second stage are its own.
    "mislas": _decoupled(
        "mislas",
        first={"method": {"name": "supervised", "mixup": 1.0}},
        label="MiSLAS",
        total="10 epochs",
        loss={"name": "label_aware_smoothing"},
        **{
            "head.class_scale": "ones",
            "optimizer.train": "head,class_scale",
            "optimizer.lr_factors": {"head": 0.5},
            "optimizer.bn_mode": "update_stats",
            "init_skip": ("class_scale",),
        },
    ),
    "etf_dr": {
        "label": "ETF+DR",
        "loss": {"name": "dot_regression", "class_balance": "batch"},
        "method": {"name": "supervised", "mixup": 1.0},
    },
    "etf_ce": {"label": "ETF+CE", **_FIXED},
    "etf_la": {"label": "ETF+LA", "loss": {"name": "la"}, **_FIXED},
    "etf_init": {
        "label": "ETF start",
        "head": {
            "name": "linear",
            "kernel_init": "etf",
            "batch_norm": True,
            "normalize": "l2",
            "scale": FRAME_SCALE,
        },
    },
    "fixed_random": {
        "label": "Random frame",
        "head": {"name": "etf", "frame": "random", "scale": FRAME_SCALE},
    },
}

# What a preset has on CIFAR-100, of the run or of its last stage.
MANY_CLASSES: dict[str, dict[str, Any]] = {
    "mislas": {
        "loss": {"name": "label_aware_smoothing", "head": 0.4, "tail": 0.1},
        "optimizer.lr_factors": {"head": 0.2},
    }
}

# Of several labels per example; TKPR begins with a fifth of binary cross-entropy.
_SETS = {"method": {"name": "multi_label"}}
MULTI_LABEL: dict[str, dict[str, Any]] = {
    "sigmoids": {"label": "sigmoids", **_SETS, "loss": {"name": "sigmoids"}},
    "tkpr": {
        "label": "tkpr",
        **_SETS,
        "loss": {"name": "tkpr"},
        "weights.start": "20%",
    },
    "distribution_balanced": {
        "label": "distribution_balanced",
        **_SETS,
        "loss": {"name": "distribution_balanced"},
    },
}

# Data, network and optimizer that the families of weak and self supervision share.
DATA_PRESETS: dict[str, dict[str, Any]] = {
    "mnist1d": {
        "data": {"name": "mnist1d", "max_count": 2000},
        "model": {"name": "conv1d"},
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup": "3%"},
        "total": "3000 steps",
        "many": 200,
        "few": 60,
    },
    "mnist": {
        "data": {"name": "mnist", "max_count": 5000},
        "augment": {"name": "shift"},
        "model": {"name": "conv2d"},
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup": "3%"},
        "total": "3000 steps",
        "many": 1000,
        "few": 200,
    },
    "cifar10": {
        "data": {"name": "cifar10", "max_count": 5000},
        "augment": {"name": "cifar"},
        "model": {"name": "resnet32"},
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 2e-4},
        "schedule": {"name": "cosine", "warmup": "3%"},
        "total": "200 epochs",
    },
    "cifar100": {
        "data": {"name": "cifar100", "max_count": 500},
        "augment": {"name": "cifar"},
        "model": {"name": "resnet32"},
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 2e-4},
        "schedule": {"name": "cosine", "warmup": "3%"},
        "total": "200 epochs",
    },
}

# What stands beside a rule's own defaults, and what tables call it.
GRADIENT_LABELS: dict[str, str] = {
    "plain": "",
    "sam": "SAM",
    "asam": "ASAM",
    "imbsam": "ImbSAM",
    "sse_sam": "SSE-SAM",
    "rwsam": "RWSAM",
    "focal_sam": "Focal-SAM",
    "cc_sam": "CC-SAM",
}


def apply_changes(config: Any, changes: Mapping, *, late: str = "") -> None:
    """Sets options by dotted name, and makes sections anew.

    Args:
        config: a config of `ltjax.train.config`, changed in place.
        changes: "optimizer.train" -> value, or "sampler" -> {"name": ..., options}.
        late: what `LATE` stands for.
    """
    for path, value in changes.items():
        *sections, name = path.split(".")
        place = config
        for section in sections:
            place = place[section]
        if isinstance(value, Mapping) and hasattr(place[name], "choose"):
            place[name].choose(**{k: _late(v, late) for k, v in value.items()})
        else:
            place[name] = _late(value, late)


def _late(value: Any, late: str) -> Any:
    return late if value == LATE else value


def apply_data(config: Any, name: str, *, imbalance_factor: float) -> None:
    """Sets data, network and optimizer of a data set in `config`.

    Args:
        config: changed in place.
        name: a key of `DATA_PRESETS`.
        imbalance_factor: of the long-tailed subset.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    if name not in DATA_PRESETS:
        raise ConfigError([f"data is {name!r}, unknown{nearest(name, DATA_PRESETS)}"])
    apply_changes(config, DATA_PRESETS[name])
    config.data.imbalance_factor = imbalance_factor


def apply_multi_label(config: Any, name: str) -> None:
    """Sets method and loss for several labels per example in `config`.

    Args:
        config: changed in place.
        name: a key of `MULTI_LABEL`.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    if name not in MULTI_LABEL:
        hint = nearest(name, MULTI_LABEL)
        raise ConfigError(
            [f"method is {name!r}, unknown for several labels per example{hint}"]
        )
    apply_changes(config, MULTI_LABEL[name])


def is_signal(config: Any) -> bool:
    """Whether the data of a config are 1-D signals."""
    return config.model.name == "conv1d"


def mirrors(config: Any) -> bool:
    """Whether images of a config still are what they were when mirrored."""
    return config.data.name != "mnist"


def apply_smoke(config: Any, *, steps: int = 6) -> None:
    """Makes a config a few seconds long; every code path stays.

    Args:
        config: changed in place.
        steps: of the run.
    """
    if config.data.name == "mnist1d":
        config.data.train_per_class, config.data.test_per_class = 60, 10
    config.data.max_count = min(config.data.max_count, 40)
    config.batch_size = min(config.batch_size, 16)
    config.total, config.log_every = f"{steps} steps", "2 steps"
    config.eval_every, config.checkpoint_every = "50%", "50%"
    config.replicas.seeds = (0,)


def apply_preset(
    config: Any, name: str, *, late: str, many_classes: bool = False
) -> None:
    """Sets loss, class weights, sampler and label of a named method in `config`.

    A preset of two stages becomes `config.stages`; with `config.init_from`, a finished
    run takes the place of the first, and the second is the run itself.

    Args:
        config: from `ltjax.train.config.default_config`, changed in place.
        name: a key of `PRESETS`.
        late: duration after which deferred methods switch, such as "160 epochs".
        many_classes: whether the values are those published for CIFAR-100.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    if name not in PRESETS:
        raise ConfigError([f"method is {name!r}, unknown{nearest(name, PRESETS)}"])
    changes = PRESETS[name]
    more = MANY_CLASSES.get(name, {}) if many_classes else {}
    if "stages" in changes:
        *earlier, last = changes["stages"]
        changes = {**changes, "stages": (*earlier, {**last, **more})}
    else:
        changes = {**changes, **more}
    if "stages" in changes and config.init_from:
        last = changes["stages"][-1]
        changes = {key: value for key, value in last.items() if key != "name"}
    apply_changes(config, changes, late=late)


def apply_gradient(config: Any, name: str, **changes) -> None:
    """Sets the gradient rule of `config` and appends it to the label.

    Args:
        config: changed in place.
        name: a key of `ltjax.methods.registry.GRADIENTS`.
        **changes: options of the rule that this data set wants otherwise.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    if name not in GRADIENT_LABELS:
        hint = nearest(name, GRADIENT_LABELS)
        raise ConfigError([f"gradient is {name!r}, unknown{hint}"])
    config.gradient.choose(name=name, **changes)
    if GRADIENT_LABELS[name]:
        config.label = f"{config.label} + {GRADIENT_LABELS[name]}".strip(" +")
