r"""Self-supervised pre-training on long-tailed data, then a linear probe.

    ltjax train --config configs/selfsup_lt.py:method=simclr --workdir runs/simclr

Arguments: data (mnist1d, mnist, cifar10, cifar100, imagenet), method (a key of
METHODS), imf (of a subset; ImageNet-LT is what it is), probe (off: pre-train only),
then (a preset of the supervised losses), workers and classes (of ImageNet-LT),
smoke. The run is two stages: `0_pretrain`, judged by the vote of the nearest
training features, and `1_probe`, a linear classifier on the frozen features,
trained on the same long-tailed set with class-balanced batches. With `then` a
supervised run on all that was learned takes the probe's place (SSP:
`method=rotation,then=ldam_drw`). rwsam and rwsam_moco have a stage `0_base` before
them, whose features give the weights; dnc has the base, the clusters and the
experts.

MNIST-1D and MNIST: batch 256, temperature 0.2 (Kukleva et al. 2023), SGD with
cosine; the views of 1-D signals are circular shifts, ramps and smooth noise.
Durations that the papers give in epochs are the same share of the run here.

CIFAR-LT and ImageNet-LT have the published recipes (`RECIPES`): a ResNet-18 with a
small stem or a ResNet-50, SGD with ten epochs of warm-up and a cosine. Where a
paper has no long-tailed CIFAR of its own (MoCo, BYOL, MoCLR), rates and queue are
our choice. No result of ours yet: one run costs hours (CIFAR) or days (ImageNet-LT)
of an accelerator.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# Batch, rate, weight decay and epochs of the papers; "" is SimCLR and what is built on
# it. With LARS the rate is the papers' base rate times batch / 256.
RECIPES = {
    "cifar": {
        "": (512, 0.5, 1e-4, 2000),
        "bcl": (512, 0.5, 5e-4, 2000),
        "gh": (512, 0.5, 5e-4, 1000),
        "moco": (512, 0.06, 1e-4, 2000),
        "rwsam_moco": (512, 0.06, 1e-4, 2000),
        "simsiam": (512, 0.06, 5e-4, 800),
        "rwsam": (512, 0.06, 5e-4, 800),
        "rotation": (128, 0.1, 2e-4, 200),
        "sup_con": (1024, 0.5, 1e-4, 1000),
        "kcl": (1024, 0.5, 1e-4, 1000),
        "paco": (128, 0.05, 5e-4, 400),
        "balanced_contrastive": (256, 0.15, 5e-4, 200),
    },
    "imagenet": {
        "": (256, 0.5, 1e-4, 500),
        "ts": (256, 0.5, 1e-4, 800),
        "moco": (128, 0.015, 1e-4, 200),
        "rwsam_moco": (128, 0.015, 1e-4, 200),
        "simsiam": (512, 0.1, 1e-4, 100),
        "rwsam": (512, 0.1, 1e-4, 100),
        "byol": (4096, 4.8, 1e-6, 300),
        "moclr": (4096, 4.8, 1.5e-6, 300),
        "dnc": (4096, 8.0, 1.5e-6, 200),
        "rotation": (128, 0.1, 2e-4, 90),
        "paco": (128, 0.02, 5e-4, 400),
        "balanced_contrastive": (256, 0.1, 5e-4, 90),
    },
}
LARS = ("byol", "moclr", "dnc")
# Hidden layers of the regressors of divide and contrast, 4096 in the paper.
REGRESSORS = {"imagenet": 4096, "cifar10": 512, "cifar100": 512}
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


def _dnc(args, head) -> tuple[dict, ...]:
    """Divide and contrast: base, clusters, an expert for each, distillation.

    40, 40 and 20 percent of 200 epochs; an expert makes as many passes over its own
    cluster as the base over everything. ImageNet has the paper's 200, 600 and 200.
    """
    data = args.data
    experts = {"imagenet": 5}.get(data, 3) if not args.smoke else 2
    base, long, short = ("80 epochs", "80 epochs", "40 epochs")
    if data == "imagenet":
        base, long, short = ("200 epochs", "600 epochs", "200 epochs")
    if args.smoke:
        base, long, short = ("4 steps",) * 3
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
                "regressor_width": 128 if args.smoke else REGRESSORS.get(data, 128),
                "width": head.width,
                "dim": head.dim,
            },
            "init_from": "",
            "columns_from": {**clusters, **projections},
            "optimizer.lr": 0.1 if data != "imagenet" else 5.6,
            "total": short,
        },
    )


def _pretraining(args, head) -> tuple[dict, ...]:
    """The stages without labels; the config itself is the first one."""
    if args.method == "dnc":
        return _dnc(args, head)
    if args.method.startswith("rwsam"):
        return {"name": "base", "label": f"{args.method}, base"}, _RWSAM
    return ({"name": "pretrain"},)


def _set_data(config, args) -> None:
    """Data, network and optimizer of a run with labels."""
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
    images = "imagenet" if args.data == "imagenet" else "cifar"
    table = RECIPES[images]
    batch, rate, decay, epochs = table.get(args.method, table[""])
    config.batch_size, config.total = batch, f"{epochs} epochs"
    if images == "imagenet" and args.method in LARS:
        config.optimizer.choose("lars", lr=rate, weight_decay=decay)
    else:
        config.optimizer.lr, config.optimizer.weight_decay = rate, decay
    config.schedule.choose("cosine", warmup="10 epochs")
    if images == "cifar":
        config.model.choose("resnet18", stem="small")
    wide = 2048 if images == "imagenet" or config.method.name in _SIAMESE else 512
    if "width" in config.head:
        config.head.width, config.head.dim = wide, 128
        config.head.dim = {"simsiam": 2048, "byol": 256}.get(config.method.name, 128)
    if "predictor_width" in config.head:
        config.head.predictor_width = 512 if config.method.name == "simsiam" else 4096
    if config.method.name in ("simclr", "sdclr"):
        config.head.last_norm = True  # the long-tailed repositories' projector
    if images == "imagenet":
        if config.method.name == "moco":
            config.method.queue, config.method.momentum = 65536, 0.999
        if args.method == "gh":
            config.method.harmony_start, config.method.harmony_floor = "80%", 100.0
        if args.method == "sdclr":
            config.method.prune, config.method.temperature = 0.3, 0.3
        if config.augment.name == "two_views":
            config.augment.recipe = _IMAGENET_VIEWS.get(config.method.name, "simclr_lt")


_SIAMESE = ("simsiam", "byol", "moclr")
_IMAGENET_VIEWS = {
    "moco": "moco_v2",
    "simsiam": "moco_v2",
    "byol": "byol",
    "moclr": "byol",
}


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
        then="",
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
    if not args.data.startswith("mnist"):
        _set_recipe(config, args)
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
        config.method.update({k: v for k, v in _SMOKE.items() if k in config.method})
        if "width" in config.head:
            config.head.update(_SMALL)
        if args.data == "imagenet":
            config.data.resize, config.data.crop = 64, 64
            config.data.workers = min(args.workers, 1)
            config.model.choose("resnet10", widths=(8, 8, 16, 16), dtype="float32")
            config.schedule.warmup = "0 epochs"
            augment["size"] = 64
    stages = _pretraining(args, config.head)
    if args.then:
        stages += (_supervised(args),)
    elif args.probe:
        stages += (_probe(args, augment),)
    config.stages = stages if len(stages) > 1 else ()
    return config
