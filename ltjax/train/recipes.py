"""Named combinations of loss, weights, sampler and gradient rule, as papers use them.

A config file picks one with `apply_method` and `apply_gradient` and sets what belongs
to its data. Hyper-parameters are those of the methods' CIFAR-10-LT settings, unless the
config file knows better.
"""

from typing import Any

import ml_collections

from ltjax.train.config import ConfigError, nearest

# Cross-entropy of unit features and unit class vectors cannot become confident: at
# scale 1 its smallest value for ten classes is 1.4 nats.
FRAME_SCALE = 10.0
LATE = "<late>"  # replaced by the config's own start of the late phase

_CB = {"weights.name": "class_balanced", "weights.beta": 0.9999}
_DRW = {**_CB, "weights.start": LATE, "weights.normalize": "weights"}

# Kang et al. 2020: ten (LWS: five) epochs of class-balanced batches on top of a
# finished run, cosine, no warm-up; needs `init_from`.
_SECOND_STAGE = {
    "sampler.name": "class_balanced",
    "optimizer.schedule": "cosine",
    "optimizer.warmup": "0 steps",
}
_FIXED = {"model.head": "etf", "model.head_options": {"scale": FRAME_SCALE}}

METHODS: dict[str, dict] = {
    "ce": {"label": "CE"},
    "ce_drw": {"label": "CE-DRW", **_DRW},
    "focal": {"label": "Focal", "loss.name": "focal", "loss.gamma": 1.0},
    "cb": {"label": "CB", **_CB},
    "cb_focal": {
        "label": "CB-Focal",
        "loss.name": "sigmoid_focal",
        "loss.gamma": 1.0,
        "optimizer.decay": "not_head_bias",
        **_CB,
    },
    "rw": {"label": "RW", "weights.name": "inverse_power", "weights.power": 1.0},
    "rs": {"label": "RS", "sampler.name": "class_balanced"},
    "ldam": {"label": "LDAM", "loss.name": "ldam"},
    "ldam_drw": {"label": "LDAM-DRW", "loss.name": "ldam", **_DRW},
    "ldam_drs": {
        "label": "LDAM-DRS",
        "loss.name": "ldam",
        "sampler.name": "effective_number",
        "sampler.start": LATE,
    },
    "la": {"label": "LA", "loss.name": "la", "loss.tau": 1.0},
    "la_cb": {
        "label": "LA + CB-DRW",
        "loss.name": "la",
        "loss.tau": 1.0,
        **_DRW,
        "weights.beta": 0.99,
    },
    "la_posthoc": {"label": "LA post hoc", "loss.posthoc_tau": 1.0},
    "balanced_softmax": {"label": "BS", "loss.name": "balanced_softmax"},
    "cdt": {"label": "CDT", "loss.name": "cdt", "loss.gamma": 0.2},
    "vs": {
        "label": "VS",
        "loss.name": "vs",
        "loss.gamma": 0.2,
        "loss.tau": 1.2,
        "weights.normalize": "weights",
    },
    "tla_adrw": {
        "label": "TLA+ADRW",
        "loss.name": "tla_adrw",
        "loss.gamma": 0.05,
        "loss.tau": 1.0,
        "loss.tau_late": 1.0,
        "weights.name": "inverse_power",
        "weights.power": 0.15,
        "weights.normalize": "weights",
        "weights.start": LATE,
    },
    "cvs": {
        "label": "CVS",
        "loss.name": "cvs",
        "loss.gamma": 0.15,
        "loss.tau": 0.9,
        "weights.name": "inverse_power",
        "weights.power": 0.15,
        "weights.normalize": "weights",
        "weights.start": LATE,
    },
    "crt": {
        "label": "cRT",
        "total": "10 epochs",
        "optimizer.train": "head",
        "init_skip": ("head",),
        **_SECOND_STAGE,
    },
    "lws": {
        "label": "LWS",
        "total": "5 epochs",
        "model.class_scale": "ones",
        "optimizer.train": "class_scale",
        "init_skip": ("class_scale",),
        **_SECOND_STAGE,
    },
    "etf_dr": {
        "label": "ETF+DR",
        "loss.name": "dot_regression",
        "loss.class_balance": "batch",
        "loss.mixup": 1.0,
    },
    "etf_ce": {"label": "ETF+CE", **_FIXED},
    "etf_la": {"label": "ETF+LA", "loss.name": "la", **_FIXED},
    "etf_init": {
        "label": "ETF start",
        "model.head_options": {
            "kernel_init": "etf",
            "batch_norm": True,
            "normalize": "l2",
            "scale": FRAME_SCALE,
        },
    },
    "fixed_random": {
        "label": "Random frame",
        "model.head": "etf",
        "model.head_options": {"frame": "random", "scale": FRAME_SCALE},
    },
}

GRADIENTS: dict[str, dict] = {
    "plain": {},
    "sam": {"gradient.rho": 0.1},
    "asam": {"gradient.rho": 0.5},
    "imbsam": {"gradient.rho": 0.05, "gradient.eta": 20},
    "sse_sam": {
        "gradient.rho_head": 0.05,
        "gradient.rho_tail": 0.1,
        "gradient.eta": 100,
        "gradient.switch": "70%",
    },
    "rwsam": {"gradient.rho": 0.1},
    "focal_sam": {
        "gradient.rho": 0.2,
        "gradient.focal_gamma": 3.0,
        "gradient.focal_lambda": 0.5,
    },
    # The radii grow without bound as the classes' gradients vanish.
    "cc_sam": {"gradient.cc_ratio": 0.3, "gradient.cc_max_rho": 0.2},
}


def _set(config: Any, values: dict, late: str) -> None:
    for path, value in values.items():
        *sections, name = path.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[name] = late if value == LATE else value


def _pick(kind: str, name: str, table: dict) -> dict:
    if name not in table:
        raise ConfigError([f"{kind} is {name!r}, unknown{nearest(name, table)}"])
    return table[name]


def apply_method(config: ml_collections.ConfigDict, name: str, *, late: str) -> None:
    """Sets loss, class weights, sampler and label of a named method in `config`.

    Args:
        config: changed in place.
        name: a key of `METHODS`.
        late: duration after which deferred methods switch, such as "160 epochs".

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    _set(config, _pick("method", name, METHODS), late)


def apply_gradient(config: ml_collections.ConfigDict, name: str, **changes) -> None:
    """Sets the gradient rule of `config` and appends it to the label.

    Args:
        config: changed in place.
        name: a key of `GRADIENTS`.
        **changes: fields of the gradient section that this data set wants otherwise.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
    """
    _set(config, _pick("gradient", name, GRADIENTS), "")
    changes = {"name": name, **changes}
    _set(config, {f"gradient.{field}": value for field, value in changes.items()}, "")
    if name != "plain":
        label = {
            "sse_sam": "SSE-SAM",
            "imbsam": "ImbSAM",
            "focal_sam": "Focal-SAM",
            "cc_sam": "CC-SAM",
        }
        config.label = f"{config.label} + {label.get(name, name.upper())}".strip(" +")
