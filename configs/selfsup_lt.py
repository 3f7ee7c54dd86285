r"""Self-supervised pre-training on long-tailed data, then a linear probe.

    ltjax train --config configs/selfsup_lt.py:method=simclr --workdir runs/simclr

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (a key of METHODS), imf,
probe (off: pre-train only), then (a preset of the supervised losses), smoke. The run is
two stages: `0_pretrain`, judged by the vote of the nearest training features, and
`1_probe`, a linear classifier on the frozen features, trained on the same long-tailed
set with class-balanced batches. With `then` a supervised run on all that was learned
takes the probe's place (SSP: `method=rotation,then=ldam_drw`). rwsam and rwsam_moco
have a stage `0_base` before them, whose features give the weights; dnc has the base,
the clusters and the experts.

Setting: batch 256, temperature 0.2 (Kukleva et al. 2023), SGD with cosine; the views of
1-D signals are circular shifts, ramps and smooth noise. Durations that the papers give
in epochs are the same share of the run here.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# What a run of less than an epoch has to reach.
_SMOKE = {"boost_every": "2 steps", "harmony_every": "4 steps", "queue": 64}
_SMALL = {"width": 128, "dim": 64}

_SIMSIAM = {
    "method": {"name": "simsiam"},
    "head": {
        "name": "prediction",
        "last_norm": True,
        "last_affine": False,
        "predictor_width": 64,
        **_SMALL,
    },
}

_MOCLR = {
    "method": {"name": "moclr"},
    "head": {"name": "projection", "last_norm": True, **_SMALL},
}

# What a method changes, by dotted name.
METHODS = {
    "simclr": {},
    "focal": {"method.focal_gamma": 2.0},
    # 0.1 to 1 and back in 400 of 2000 epochs.
    "ts": {
        "method.temperature": 0.1,
        "method.temperature_shape": "cosine",
        "method.temperature_period": "20%",
    },
    "bcl": {"method.boost": True},
    "gh": {"method.harmony": 1.0, "method.joint": False, "head.dim": 128},
    "moco": {"method": {"name": "moco"}},
    "bcl_d": {
        "method": {"name": "sdclr", "boost": True},
        "augment.boost_layers": 2,
        "augment.boost_lowest": 5.0,
        "augment.boost_random": True,
    },
    "sdclr": {"method": {"name": "sdclr"}},
    "simsiam": _SIMSIAM,
    # Of SimSiam and MoCo v2: what each of their two runs changes.
    "rwsam": _SIMSIAM,
    "rwsam_moco": {"method": {"name": "moco"}},
    "byol": {
        "method": {"name": "byol"},
        "head": {"name": "prediction", "predictor_width": 128, **_SMALL},
    },
    "rotation": {"method": {"name": "rotation"}, "head": {"name": "linear_rotation"}},
    "sup_con": {"method": {"name": "sup_con"}},
    "kcl": {"method": {"name": "kcl"}},
    "paco": {
        "method": {"name": "paco"},
        "head": {"name": "classifying", **_SMALL},
    },
    "balanced_contrastive": {
        "method": {"name": "balanced_contrastive"},
        "loss": {"name": "la"},
        "head": {"name": "centering", "center_width": 128, **_SMALL},
    },
    "moclr": _MOCLR,
    "dnc": _MOCLR,
}

# The weights of rwSAM come from the features of a first run without it.
_RWSAM = {
    "name": "pretrain",
    "init_from": "",
    "columns_from": {"seen": "stage:base#features"},
    "gradient": {
        "name": "rwsam",
        "adaptive": True,
        "rho": 0.5,
        "density_column": "seen",
    },
}


def _dnc(smoke: bool) -> tuple[dict, ...]:
    """Divide and contrast: base, clusters, an expert for each, distillation.

    40, 40 and 20 percent of 200 epochs; an expert makes as many passes over its own
    cluster as the base over everything.
    """
    experts = 2 if smoke else 3
    long, short = ("4 steps", "4 steps") if smoke else ("80 epochs", "40 epochs")
    clusters = {"cluster": "stage:clusters#cluster"}
    names = [f"expert{k}" for k in range(1, experts + 1)]
    projections = {
        "base": "stage:base#projection",
        "expert": ",".join(f"stage:{name}#projection" for name in names),
    }
    return (
        {"name": "base", "label": "dnc, base", "total": long},
        {
            "name": "clusters",
            "label": "dnc, clusters",
            "method": {"name": "clusters", "clusters": experts},
            "augment": {"name": "none"},
            "total": "3 epochs" if smoke else "10 epochs",
        },
        *(
            {
                "name": name,
                "label": f"dnc, {name}",
                "init_from": "",
                "columns_from": clusters,
                "only": {"cluster": k},
                "total": long,
            }
            for k, name in enumerate(names)
        ),
        {
            "name": "pretrain",
            "method": {"name": "dnc"},
            "head": {
                "name": "distilling",
                "last_norm": True,
                "experts": experts,
                "regressor_width": 128,
                **_SMALL,
            },
            "init_from": "",
            "columns_from": {**clusters, **projections},
            "optimizer.lr": 0.1,
            "total": short,
        },
    )


def _pretraining(method: str, smoke: bool) -> tuple[dict, ...]:
    """The stages without labels; the config itself is the first one."""
    if method == "dnc":
        return _dnc(smoke)
    if method.startswith("rwsam"):
        return {"name": "base", "label": f"{method}, base"}, _RWSAM
    return ({"name": "pretrain"},)


def _probe(args, augment: dict) -> dict:
    """A linear classifier on frozen features."""
    return {
        "name": "probe",
        "label": f"{args.method} + linear probe",
        "method": {"name": "supervised"},
        "loss": {"name": "ce"},
        "head": {"name": "linear"},
        "augment": augment,
        "sampler": {"name": "class_balanced"},
        "optimizer.train": "head",
        "optimizer.lr": 0.5,
        "init_skip": ("head",),
        "total": "4 steps" if args.smoke else "1000 steps",
    }


def _supervised(args) -> dict:
    """A supervised long-tailed run from what was learned without labels (SSP)."""
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    presets.apply_preset(config, args.then, late="80%")
    if config.stages:
        raise ConfigError([f"then is {args.then!r}, which has stages of its own"])
    if args.smoke:
        presets.apply_smoke(config)
    sections = ("method", "loss", "weights", "sampler", "head", "augment")
    sections += ("optimizer", "schedule")
    return {
        "name": "supervised",
        "label": f"{args.method} + {config.label}",
        **{name: dict(config[name].items()) for name in sections},
        "batch_size": config.batch_size,
        "total": config.total,
        "init_skip": ("head",),
    }


def get_config(arg=""):
    args = parse_arg(
        arg,
        data="mnist1d",
        method="simclr",
        imf=100.0,
        probe=True,
        then="",
        smoke=False,
    )
    if args.method not in METHODS:
        hint = nearest(args.method, METHODS)
        raise ConfigError([f"method is {args.method!r}, unknown{hint}"])
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    augment = dict(config.augment.items())
    signal = presets.is_signal(config)
    config.method.choose("simclr")
    config.label = args.method
    config.augment.choose("two_views", recipe="signal" if signal else "simclr_cifar")
    config.head.choose("projection", **_SMALL)
    config.batch_size, config.optimizer.lr = 256, 0.3
    config.optimizer.weight_decay = 1e-4
    presets.apply_changes(config, METHODS[args.method])
    if args.method == "rotation":  # it reads one view, lightly augmented
        config.augment.choose(**augment)
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
        config.method.update({k: v for k, v in _SMOKE.items() if k in config.method})
    stages = _pretraining(args.method, args.smoke)
    if args.then:
        stages += (_supervised(args),)
    elif args.probe:
        stages += (_probe(args, augment),)
    config.stages = stages if len(stages) > 1 else ()
    return config
