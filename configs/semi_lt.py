r"""Semi-supervised learning on long-tailed labels and unlabelled data.

    ltjax train --config configs/semi_lt.py:method=fixmatch --workdir runs/fixmatch

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (a key of `METHODS`, or
supervised for the labelled examples alone), base (what darp and dynamic_prior are built
on: fixmatch, mixmatch, remixmatch, abc), loss (a preset of the supervised losses, for
the labelled term), imf (imbalance factor of the labelled part), imf_u and profile (of
the unlabelled part; 0 = as imf; consistent, reversed, uniform, middle, head_tail), mu,
smoke.

Setting: the labelled part has 150 examples in its largest class (CIFAR-10: 1500), the
unlabelled part twice as many. FixMatch's published CIFAR recipe is SGD with Nesterov
momentum, 0.03, weight decay 5e-4, batch 64 with mu = 7, and averaged parameters (0.999)
predict. Methods built on it have the options of their papers on that recipe, MixMatch
and ReMixMatch Adam with 0.002.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# Labelled and unlabelled examples of the largest class.
COUNTS = {
    "mnist1d": (150, 300),
    "mnist": (500, 1000),
    "cifar10": (1500, 3000),
    "cifar100": (150, 300),
}

# What a method changes of the config, as in a preset. Without a method of its own it
# treats the guesses of another one, the argument `base`.
_TWO = {"augment_unlabelled.num_strong": 2}
_ADAM = {
    "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 0.02},
    "schedule.name": "constant",
}
METHODS = {
    "fixmatch": {"method": {"name": "fixmatch"}},
    "mixmatch": {
        "method": {"name": "mixmatch"},
        "augment_unlabelled.num_weak": 2,
        **_ADAM,
    },
    "remixmatch": {"method": {"name": "remixmatch"}, **_TWO, **_ADAM},
    "darp": {"pseudo_labels": {"name": "darp"}},
    "dynamic_prior": {"pseudo_labels": {"name": "dynamic_prior"}},
    "abc": {"method": {"name": "abc"}, **_TWO},
    "daso": {"method": {"name": "daso"}},
    "acr": {"method": {"name": "acr"}, **_TWO},
    "simpro": {
        "method": {"name": "simpro"},
        "augment": {"name": "weak_strong"},
        **_TWO,
    },
    "crest": {"method": {"name": "crest"}, "schedule.name": "constant"},
    "crest_plus": {
        "method": {"name": "crest", "align": True},
        "schedule.name": "constant",
    },
    "cossl": {"method": {"name": "cossl"}, **_TWO},
}
# On CIFAR-100.
MANY_CLASSES = {
    "darp": {"pseudo_labels.every": "100 steps", "pseudo_labels.passes": 20},
    "simpro": {"method.tau": 1.0, "method.threshold": 0.2},
}


def get_config(arg=""):
    args = parse_arg(
        arg,
        data="mnist1d",
        method="fixmatch",
        base="fixmatch",
        loss="ce",
        imf=100.0,
        imf_u=0.0,
        profile="consistent",
        mu=3,
        smoke=False,
    )
    args.imf_u = args.imf_u or args.imf
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    config.data.max_count, unlabelled = COUNTS[args.data]
    config.many, config.few = config.data.max_count // 5, config.data.max_count // 20
    config.batch_size, config.total = 32, "3000 steps"
    config.optimizer.lr, config.optimizer.nesterov = 0.03, True
    config.ema_decay, config.evaluate_ema = 0.999, True
    presets.apply_preset(config, args.loss, late="80%")
    recipe = "signal" if presets.is_signal(config) else "fixmatch"
    config.augment.choose("weak", recipe=recipe)
    if args.method != "supervised":
        config.label = f"{args.method} + {config.label}"
        config.augment_unlabelled.choose("weak_strong", recipe=recipe)
        config.unlabelled.choose(
            "rest",
            ratio=args.mu,
            max_count=unlabelled,
            imbalance_factor=args.imf_u,
            profile=args.profile,
        )
        choose_method(config, args)
        config.augment.recipe = recipe  # of whatever views the method asks for
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor, config.ema_decay = 10.0, 0.5
        if args.method != "supervised":
            config.unlabelled.ratio = 2
            config.unlabelled.max_count = 20
            config.unlabelled.imbalance_factor = 4.0
    return config


def choose_method(config, args):
    """The sections of the method, with what its paper has for the data."""
    for name in (args.method, args.base):
        if name not in METHODS:
            raise ConfigError([f"method is {name!r}, unknown{nearest(name, METHODS)}"])
    if "method" not in METHODS[args.method]:
        presets.apply_changes(config, METHODS[args.base])
    presets.apply_changes(config, METHODS[args.method])
    if args.data == "cifar100":
        presets.apply_changes(config, MANY_CLASSES.get(args.method, {}))
    agree = args.profile == "consistent" and args.imf_u == args.imf
    if args.method == "daso" and not agree:
        config.method.blend = 0.3
