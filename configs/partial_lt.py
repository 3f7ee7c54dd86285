r"""Partial labels: every example comes with a set of candidate labels.

    ltjax train --config configs/partial_lt.py:method=proden,q=0.3 --workdir runs/proden
    ltjax train --config configs/partial_lt.py:method=corr,records,mixup=4 \
        --workdir runs/records

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (proden, lw, cavl, corr,
solar), records (take the prior of the network itself out of what disambiguates and
predicts; not for solar, which estimates one), mixup (alpha of a mixed pass; 4 in
RECORDS, and solar's own default), labels (a component of `ltjax list labels` that makes
candidate sets), q (ambiguity of uniform sets), imf, smoke.

The true labels stay in the column "truth", by which the share of examples whose
confidences point at the true label is measured; no method sees them.

Setting on CIFAR (RECORDS, for all methods): ResNet-18 with a 3x3 stem, SGD 0.01 with
momentum, weight decay 1e-3, batch 256, a cosine by epoch over 800 epochs to a
thousandth of the rate, confidences that stay uniform in the first one. SoLar begins
with a training that estimates the class prior, after which the network starts afresh
(100 epochs on CIFAR-10, 20 on CIFAR-100); then it has its 800.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg

# Methods of a weak and a strong view, and the transforms that they are published with.
RECIPES = {"corr": "range_resized", "solar": "range"}

CIFAR = {
    "model": {"name": "resnet18", "stem": "small"},
    "optimizer.lr": 0.01,
    "optimizer.weight_decay": 1e-3,
    "schedule": {"name": "cosine", "per_epoch": True, "final": 1e-3},
    "batch_size": 256,
    "total": "800 epochs",
    "method.warmup": "1 epochs",
}
# SoLar's first training, which estimates the class prior, and the whole run.
SOLAR = {
    "cifar10": {
        "method.estimate": "100 epochs",
        "method.last_rate": 0.6,
        "total": "900 epochs",
    },
    "cifar100": {
        "method.estimate": "20 epochs",
        "method.estimate_rate": 0.05,
        "method.last_rate": 0.5,
        "total": "820 epochs",
    },
}


def get_config(arg=""):
    args = parse_arg(
        arg,
        data="mnist1d",
        method="proden",
        labels="uniform_candidates",
        records=False,
        mixup=0.0,
        q=0.3,
        imf=100.0,
        smoke=False,
    )
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    more = {"records": True} if args.records else {}
    more |= {"mixup": args.mixup} if args.mixup else {}
    config.method.choose(args.method, **more)
    config.label = args.method + (" + records" if args.records else "")
    if args.method in RECIPES:
        recipe = RECIPES[args.method] if "cifar" in args.data else "fixmatch"
        if presets.is_signal(config):
            recipe = "signal"
        config.augment.choose(
            "weak_strong", recipe=recipe, mirror=presets.mirrors(config)
        )
    if "cifar" in args.data:
        presets.apply_changes(config, CIFAR)
    if args.method == "solar":
        config.method.warmup = "1 epochs"
        presets.apply_changes(config, SOLAR.get(args.data, {}))
        if "cifar" not in args.data:  # epochs are short
            config.method.queue, config.method.ramp = 16, "30%"
    config.labels.name = args.labels
    if args.labels == "uniform_candidates":
        config.labels.ambiguity = args.q
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
        if args.method == "solar":
            config.method.queue, config.method.warmup = 2, "1 steps"
            if "cifar" in args.data:
                config.method.estimate = "3 steps"
    return config
