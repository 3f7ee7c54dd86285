r"""Noisy labels: some labels of a long-tailed training set are wrong.

    ltjax train --config configs/noisy_lt.py:method=coteaching,rate=0.4 --workdir runs/x

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (supervised, coteaching,
cdr, har, rolt, rcal, sel_cl, mislas), drw (of rolt: re-weight late in training; HAR-DRW
is method=har with loss=ce_drw), pretrain (of rcal: false leaves out its first stage,
MoCo without labels), tune (of sel_cl: false leaves out its second stage, Sel-CL+), loss
(a preset of the supervised losses, for the methods that read it), noise (symmetric;
imbalanced: by the frequency of the wrong class; proportional: drawn anew by frequency;
asymmetric: the next class; cifar10: what they look like; group: within the published
groups of CIFAR), rate (share of the labels), imf, smoke.

The subset is drawn first and then corrupted. Methods see the given labels and their
counts; the clean ones stay in the column "truth", by which precision and recall of the
labels that a method believes are measured. Methods that are told the rate of wrong
labels are told the true one. Evaluation is on clean labels.

On MNIST-1D and MNIST all methods have the steps and the schedule of the family. On
CIFAR, with ResNet-32, optimizer, rate and epochs are those of the method's paper, as
`CIFAR` has them; plain training has RoLT's. Three things differ: Sel-CL's network is
ResNet-32 too, its schedule a cosine and its queue a whole number of batches; Adam's
first moment keeps its 0.9 in Co-teaching; CDR is not stopped early. HAR's first
training, which finds the errors, has the recipe of the second one in two thirds of its
epochs.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

NOISES = ("symmetric", "imbalanced", "proportional", "asymmetric", "cifar10", "group")
# Switches of the stages of one method.
STAGES = {"pretrain": "rcal", "tune": "sel_cl"}


def _decay(*milestones, factors=(0.1, 0.01)):
    """A schedule that changes the rate at milestones, in epochs."""
    return {"name": "warmup_multistep", "milestones": milestones, "factors": factors}


# Recipes of CIFAR, as published.
_ROLT = {
    "schedule": {"name": "warmup_multistep", "warmup": "5 epochs"},
    "total": "200 epochs",
}
CIFAR = {
    "rolt": _ROLT,
    "supervised": _ROLT,
    "mislas": {"schedule": {"name": "cosine"}, "total": "200 epochs"},
    "rcal": {
        "optimizer.lr": 0.02,
        "optimizer.weight_decay": 5e-4,
        "schedule": _decay(120, 160),
        "total": "200 epochs",
    },
    "coteaching": {
        "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.0},
        "schedule": {"name": "linear", "start": "80 epochs"},
        "total": "200 epochs",
    },
    "cdr": {
        "batch_size": 32,
        "optimizer.lr": 0.01,
        "optimizer.weight_decay": 1e-3,
        "schedule": _decay(40, 80),
        "total": "200 epochs",
    },
    # 120 epochs after the 80 of the first training, which is 40 % of the whole.
    "har": {
        "optimizer.weight_decay": 1e-4,
        "schedule": _decay(53, 67, 80, 160, 180, factors=(0.1, 0.01, 1.0, 0.1, 0.01)),
        "total": "200 epochs",
    },
    "sel_cl": {
        "optimizer.weight_decay": 1e-4,
        "method.queue": 78 * 128,  # of 10,000
        "total": "250 epochs",
    },
}
CIFAR100 = {"coteaching": {"schedule.start": "100 epochs"}}
# RCAL's first stage: MoCo's own recipe.
CONTRAST = {"batch_size": 512, "schedule": {"name": "cosine"}}
TOLD = {"coteaching": "noise_rate", "cdr": "noise_rate", "rcal": "contamination"}


def get_config(arg=""):
    args = parse_arg(
        arg,
        data="mnist1d",
        method="coteaching",
        loss="ce",
        drw=False,
        pretrain=True,
        tune=True,
        noise="imbalanced",
        rate=0.4,
        imf=100.0,
        smoke=False,
    )
    if args.noise not in NOISES:
        hint = nearest(args.noise, NOISES)
        raise ConfigError([f"noise is {args.noise!r}, unknown{hint}"])
    for switch, method in STAGES.items():
        if not getattr(args, switch) and args.method != method:
            raise ConfigError(
                [f"{switch} is false: method is {args.method!r}, expected {method!r}"]
            )
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    config.labels.choose(f"{args.noise}_noise", rate=args.rate)
    if args.method == "mislas" and args.loss != "ce":
        raise ConfigError(
            [f"loss is {args.loss!r}, but method 'mislas' has its own, expected 'ce'"]
        )
    presets.apply_preset(
        config,
        "mislas" if args.method == "mislas" else args.loss,
        late="80%",
        many_classes=args.data == "cifar100",
    )
    if args.method not in ("supervised", "mislas"):
        config.method.choose(args.method)
        config.label = f"{args.method} + {config.label}"
    if "cifar" in args.data:
        presets.apply_changes(config, CIFAR[args.method])
    if args.data == "cifar100":
        presets.apply_changes(config, CIFAR100.get(args.method, {}))
    if args.method in TOLD:
        config.method[TOLD[args.method]] = min(args.rate, 0.5)
    if args.drw:
        config.method.drw = True
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
        if "cifar" in args.data:  # warm-ups and starts are of whole epochs
            config.schedule.name = "cosine"
    if args.method == "rcal" and args.pretrain:
        config.stages = (_contrast(config, args), {"name": "train"})
        config.stages[1]["init_skip"] = ("head",)
    if args.method == "sel_cl":
        _select(config, args)
    return config


def _select(config, args):
    """Sel-CL's two views and, with `tune`, its second stage: 28 % as long as the first,
    as published.
    """
    plain = dict(config.augment.items())
    recipe = "signal" if presets.is_signal(config) else "simclr_cifar"
    config.augment.choose("two_views", recipe=recipe, mirror=presets.mirrors(config))
    config.head.choose("classifying", width=128, dim=64)
    if args.smoke:
        config.method.queue, config.method.warmup = 2 * config.batch_size, "2 steps"
    if args.tune:
        total = "70 epochs" if "cifar" in args.data else "850 steps"
        tune = {
            "name": "tune",
            "label": f"{config.label} + tuning",
            "method": {"name": "sel_cl_tune"},
            "head": {"name": "linear"},
            "augment": plain,
            "init_skip": ("head",),
            "optimizer.lr": config.optimizer.lr / 100,
            "total": "4 steps" if args.smoke else total,
        }
        config.stages = ({"name": "select"}, tune)


def _contrast(config, args) -> dict:
    """The first stage of RCAL: its number of epochs is that of the quick profile."""
    recipe = "signal" if presets.is_signal(config) else "simclr_cifar"
    own = CONTRAST if "cifar" in args.data and not args.smoke else {}
    queue = config.batch_size * 2 if args.smoke else 4096
    return {
        **own,
        "name": "pretrain",
        "label": "MoCo",
        "method": {"name": "moco", "queue": queue, "temperature": 0.1},
        "augment": {
            "name": "two_views",
            "recipe": recipe,
            "mirror": presets.mirrors(config),
        },
        "head": {"name": "projection", "width": 128, "dim": 64},
        "loss": {"name": "ce"},
        "weights": {"name": "none"},
        "optimizer.lr": 0.06,
        "optimizer.weight_decay": 5e-4,
        "total": "4 steps" if args.smoke else "200 epochs",
    }
