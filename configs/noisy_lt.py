r"""Noisy labels: some labels of a long-tailed training set are wrong.

    ltjax train --config configs/noisy_lt.py:method=coteaching,rate=0.4 --workdir runs/x

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (supervised, coteaching,
cdr, har, rolt, rcal, sel_cl), drw (of rolt: re-weight late in training; HAR-DRW is
method=har with loss=ce_drw), pretrain (of rcal: off leaves out its first stage, MoCo
without labels), tune (of sel_cl: off leaves out its second stage, Sel-CL+), loss (a
preset of the supervised losses, for the methods that take any), noise (symmetric;
imbalanced: by the frequency of the wrong class; asymmetric: the next class), rate
(share of the labels), imf, smoke.

The subset is drawn first and then corrupted. Methods see the given labels and their
counts; the clean ones stay in the column "truth", by which precision and recall of the
labels that a method believes are measured. Methods that are told the rate of wrong
labels are told the true one. Evaluation is on clean labels.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

NOISES = ("symmetric", "imbalanced", "asymmetric")
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
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    config.labels.choose(f"{args.noise}_noise", rate=args.rate)
    presets.apply_preset(config, args.loss, late="80%")
    if args.method != "supervised":
        config.method.choose(args.method)
        config.label = f"{args.method} + {config.label}"
    if args.method in TOLD:
        config.method[TOLD[args.method]] = min(args.rate, 0.5)
    if args.drw:
        config.method.drw = True
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
    if args.method == "rcal" and args.pretrain:
        config.stages = (_contrast(config, args.smoke), {"name": "train"})
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


def _contrast(config, smoke) -> dict:
    """The first stage of RCAL: its number of epochs is that of the quick profile."""
    recipe = "signal" if presets.is_signal(config) else "simclr_cifar"
    return {
        "name": "pretrain",
        "label": "MoCo",
        "method": {"name": "moco", "queue": config.batch_size * (2 if smoke else 32)},
        "augment": {
            "name": "two_views",
            "recipe": recipe,
            "mirror": presets.mirrors(config),
        },
        "head": {"name": "projection", "width": 128, "dim": 64},
        "optimizer.lr": 0.06,
        "optimizer.weight_decay": 5e-4,
        "total": "4 steps" if smoke else "200 epochs",
    }
