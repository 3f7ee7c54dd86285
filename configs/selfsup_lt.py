r"""Self-supervised pre-training on long-tailed data, then a linear probe.

    ltjax train --config configs/selfsup_lt.py:method=simclr --workdir runs/simclr

Arguments: data (mnist1d, mnist, cifar10, cifar100, imagenet), method (a key of
METHODS), imf (of a subset; ImageNet-LT is what it is), probe (off: pre-train only),
probes (the features are judged by probes at their optimum too: long-tailed, balanced,
few-shot and on all that is stored, and by where they lie), then (a preset of the
supervised losses), experts (of dnc; 0 = 5 on ImageNet-LT and 3 elsewhere), workers and
classes (of ImageNet-LT), smoke. The run is two stages: `0_pretrain`, judged by the vote
of the nearest training features, and `1_probe`, a linear classifier on the frozen
features, trained on the same long-tailed set with class-balanced batches. With `then` a
supervised run on all that was learned takes the probe's place (SSP:
`method=rotation,then=ldam_drw`). rwsam and rwsam_moco have a stage `0_base` before
them, whose features give the weights; dnc has the base, the clusters and the experts.

MNIST-1D and MNIST: batch 256, temperature 0.2 (Kukleva et al. 2023), SGD with
cosine; the views of 1-D signals are circular shifts, ramps and smooth noise.
Durations that the papers give in epochs are the same share of the run here.

CIFAR-LT and ImageNet-LT have the published recipes, which
`ltjax.methods.self_supervised.recipes` lists: mostly a ResNet-18 with a small stem or a
ResNet-50, SGD with ten epochs of warm-up and a cosine. No result of ours yet: one run
costs hours (CIFAR) or days (ImageNet-LT) of an accelerator.
"""

from ltjax.methods import presets
from ltjax.methods.self_supervised import recipes
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# What a run of less than an epoch has to reach.
_SMOKE = {
    "boost_every": "2 steps",
    "harmony_start": "2 steps",
    "harmony_every": "4 steps",
    "queue": 64,
}
_SMALL = {"width": 128, "dim": 64}
# What judges the features with the argument `probes`.
PROBES = {
    name: {}
    for name in (
        "knn",
        "probe",
        "balanced_probe",
        "few_shot_probe",
        "full_probe",
        "sphere",
        "coverage",
        "pca",
    )
}

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
    # Its weight climbs in 10, its proportions are counted every 20 of 1000 epochs.
    "gh": {
        "method.harmony": 1.0,
        "method.harmony_ramp": "1%",
        "method.harmony_every": "2%",
        "method.joint": False,
        "head.dim": 128,
    },
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


def _dnc(args, head) -> tuple[dict, ...]:
    """Divide and contrast: base, clusters, an expert for each, distillation.

    40, 40 and 20 percent of 2000 epochs on CIFAR (of 200 on MNIST); an expert makes as
    many passes over its own cluster as the base over everything. ImageNet has the
    paper's 200, 600 and 200.
    """
    experts = args.experts or (2 if args.smoke else {"imagenet": 5}.get(args.data, 3))
    images = recipes.images_of(args.data)
    rate, (base, long, short) = recipes.DISTILLED[images]
    regressors = recipes.REGRESSORS[images]
    if args.smoke:
        (base, long, short), regressors = ("4 steps",) * 3, 128
    clusters = {"cluster": "stage:clusters#cluster"}
    names = [f"expert{k}" for k in range(1, experts + 1)]
    projections = {
        "base": "stage:base#projection",
        "expert": ",".join(f"stage:{name}#projection" for name in names),
    }
    return (
        {"name": "base", "label": "dnc, base", "total": base},
        {
            "name": "clusters",
            "label": "dnc, clusters",
            "method": {"name": "clusters", "clusters": experts},
            "augment": {"name": "none"},
            "schedule": {"name": "constant"},  # nothing is trained
            "total": "3 epochs" if args.smoke else "10 epochs",
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
                "regressor_width": regressors,
                "width": head.width,
                "dim": head.dim,
            },
            "init_from": "",
            "columns_from": {**clusters, **projections},
            "optimizer.lr": rate,
            "total": short,
        },
    )


def _pretraining(args, head) -> tuple[dict, ...]:
    """The stages without labels; the config itself is the first one."""
    if args.method == "dnc":
        return _dnc(args, head)
    if args.method.startswith("rwsam"):
        radius = recipes.RADII.get(args.data, _RWSAM["gradient"]["rho"])
        sharp = {**_RWSAM, "gradient": {**_RWSAM["gradient"], "rho": radius}}
        return {"name": "base", "label": f"{args.method}, base"}, sharp
    return ({"name": "pretrain"},)


def _set_data(config, args) -> None:
    """Data, network and optimizer of a run with labels."""
    known = (*presets.DATA_PRESETS, "imagenet")
    if args.data not in known:
        raise ConfigError(
            [f"data is {args.data!r}, unknown{nearest(args.data, known)}"]
        )
    if args.data != "imagenet":
        presets.apply_data(config, args.data, imbalance_factor=args.imf)
        return
    data = config.data
    data.name, data.profile, data.val_split = "imagenet_lt", "none", "val"
    data.feed, data.workers = "streaming", args.workers
    config.augment.name = "imagenet"
    config.model.name, config.model.dtype = "resnet50", "bfloat16"
    config.batch_size, config.total = 256, "90 epochs"
    config.optimizer.lr, config.optimizer.weight_decay = 0.1, 5e-4
    config.schedule.choose("cosine", per_epoch=True)
    config.log_every, config.eval_every = "50 steps", "10 epochs"
    config.checkpoint_every = "1 epochs"
    if args.classes:
        data.num_classes = args.classes


def _set_recipe(config, args) -> None:
    """What the papers have for these images, after the method was chosen."""
    images = recipes.images_of(args.data)
    batch, rate, decay, epochs = recipes.training_of(images, args.method)
    config.batch_size, config.total = batch, f"{epochs} epochs"
    if images == "imagenet" and args.method in recipes.LARS:
        config.optimizer.choose("lars", lr=rate, weight_decay=decay)
    else:
        config.optimizer.lr, config.optimizer.weight_decay = rate, decay
    config.schedule.choose("cosine", warmup="10 epochs")
    if images == "cifar":
        config.model.choose("resnet18", stem="small")
    if "width" in config.head:  # of the features, by default
        config.head.width = 2048 if images == "imagenet" else 512
        config.head.dim = 128
    if config.method.name in ("simclr", "sdclr"):
        config.head.last_norm = True  # the long-tailed repositories' projector
    if images == "imagenet" and config.augment.name == "two_views":
        config.augment.recipe = "simclr_lt"
    presets.apply_changes(config, recipes.DETAILS[images].get(args.method, {}))


def _probe(args, augment: dict) -> dict:
    """A linear classifier on frozen features (Jiang et al. 2021).

    SGD without decay in batches of 128, of 512 on ImageNet; rate and length are ours.
    """
    size = 512 if args.data == "imagenet" else 128
    return {
        "name": "probe",
        "label": f"{args.method} + linear probe",
        "method": {"name": "supervised"},
        "loss": {"name": "ce"},
        "head": {"name": "linear"},
        "augment": augment,
        "sampler": {"name": "class_balanced"},
        "optimizer": {"name": "sgd", "lr": 0.5, "weight_decay": 0.0, "train": "head"},
        "schedule": {"name": "cosine"},
        "init_skip": ("head",),
        "batch_size": 16 if args.smoke else size,
        "total": "4 steps" if args.smoke else "1000 steps",
    }


def _supervised(args) -> dict:
    """A supervised long-tailed run from what was learned without labels (SSP)."""
    config = default_config()
    _set_data(config, args)
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
        probes=False,
        then="",
        experts=0,
        workers=8,
        classes=0,
        smoke=False,
    )
    if args.method not in METHODS:
        hint = nearest(args.method, METHODS)
        raise ConfigError([f"method is {args.method!r}, unknown{hint}"])
    config = default_config()
    _set_data(config, args)
    augment = dict(config.augment.items())
    config.method.choose("simclr")
    config.label = args.method
    recipe = "signal" if presets.is_signal(config) else "simclr_cifar"
    config.augment.choose("two_views", recipe=recipe, mirror=presets.mirrors(config))
    config.head.choose("projection", **_SMALL)
    config.batch_size, config.optimizer.lr = 256, 0.3
    config.optimizer.weight_decay = 1e-4
    presets.apply_changes(config, METHODS[args.method])
    if args.method == "rotation":  # it reads one view, lightly augmented
        config.augment.choose(**augment)
    published = not args.data.startswith("mnist")
    if published:
        _set_recipe(config, args)
    if args.smoke:
        presets.apply_smoke(config)
        if published:
            config.schedule.warmup = "0 epochs"
        config.data.imbalance_factor = 10.0
        config.method.update({k: v for k, v in _SMOKE.items() if k in config.method})
        if "width" in config.head:
            config.head.update(_SMALL)
        if args.data == "imagenet":
            config.data.resize, config.data.crop = 64, 64
            config.data.workers = min(args.workers, 1)
            config.model.choose("resnet10", widths=(8, 8, 16, 16), dtype="float32")
            augment["size"] = 64
    stages = _pretraining(args, config.head)
    last = len(stages) - 1
    if args.then:
        stages += (_supervised(args),)
    elif args.probe:
        stages += (_probe(args, augment),)
    if args.probes:  # of what was pre-trained, neither before nor after
        config.evaluators = PROBES
        others = [{**stage, "evaluators": {}} for stage in stages]
        stages = (*others[:last], stages[last], *others[last + 1 :])
    config.stages = stages if len(stages) > 1 else ()
    return config
