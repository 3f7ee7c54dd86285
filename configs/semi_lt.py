r"""Semi-supervised learning on long-tailed labels and unlabelled data.

    ltjax train --config configs/semi_lt.py:method=fixmatch --workdir runs/fixmatch

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (fixmatch, mixmatch,
remixmatch, darp, dynamic_prior, abc, daso, acr, simpro, crest, crest_plus, cossl, or
supervised for the labelled examples alone), base (what darp and dynamic_prior are built
on: fixmatch, mixmatch, remixmatch, abc), loss (a preset of the supervised losses, for
the labelled term of the methods that read it), imf (imbalance factor of the labelled
part), imf_u and profile (of the unlabelled part; 0 = as imf; consistent, reversed,
uniform, middle, head_tail), mu (unlabelled rows for every labelled one; 0 = as the
recipe has it), recipe (of CIFAR, a key of `CIFAR`; by default that of `RECIPE_OF`, the
method's own), smoke.

Setting: the labelled part has 150 examples in its largest class (MNIST: 500, CIFAR-10:
1500), the unlabelled part twice as many. On MNIST-1D and MNIST every method has 3000
steps of 32 labelled rows with mu = 3, SGD with Nesterov momentum, 0.03, weight decay
5e-4 and a cosine; MixMatch and ReMixMatch Adam with 0.002, CReST a constant rate.

On CIFAR the network is WRN-28-2, the batch 64 labelled rows, and a run is judged every
500 steps. Optimizer, rate, mu, steps and views are those of the method's paper, as
`CIFAR` has them; google is FixMatch's own, daso the shorter one of the long-tailed
studies. What no paper says is SimPro's schedule: FixMatch's here. Averaged parameters
(0.999) predict. Adam's decay is decoupled, 0.02 of the rate on kernels.
"""

from ltjax.methods import presets
from ltjax.methods.weak_presets import SEMI_SUPERVISED
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# Labelled and unlabelled examples of the largest class.
COUNTS = {
    "mnist1d": (150, 300),
    "mnist": (500, 1000),
    "cifar10": (1500, 3000),
    "cifar100": (150, 300),
}

# On CIFAR-100.
MANY_CLASSES = {
    "darp": {"pseudo_labels.every": "100 steps", "pseudo_labels.passes": 20},
    "simpro": {"method.tau": 1.0, "method.threshold": 0.2},
}


# Recipes of CIFAR, as published; `optimizer.decay` is "all" where kernels alone are not
# said to decay.
_SGD = {"name": "sgd", "lr": 0.03, "nesterov": True, "weight_decay": 5e-4}
_KERNELS = {**_SGD, "decay": "kernels"}
_ADAM = {"name": "adamw", "lr": 0.002, "weight_decay": 0.02, "decay": "kernels"}
_WRN = {"name": "wrn28_2", "norm_decay": 0.999}
_ABC = {
    "model": _WRN,
    "optimizer": _ADAM,
    "schedule": {"name": "constant"},
    "unlabelled.ratio": 1,
    "augment.recipe": "standard",
    "augment_unlabelled.recipe": "standard",
    "total": "250000 steps",
}
CIFAR = {
    "google": {
        "model": _WRN,
        "optimizer": _KERNELS,
        "schedule": {"name": "partial_cosine"},
        "unlabelled.ratio": 7,
        "total": "1048576 steps",
    },
    "daso": {
        "model": {"name": "wrn28_2", "norm_decay": 0.9},
        "optimizer": _SGD,
        "schedule": {"name": "constant"},
        "unlabelled.ratio": 2,
        "total": "250000 steps",
    },
    "abc": _ABC,
    "darp": {
        **_ABC,
        "augment_unlabelled.num_strong": 2,
        "model": {"name": "wrn28_2", "norm_decay": 0.9},
        "unlabelled.include_labelled": True,
    },
    "acr": {
        "model": {"name": "wrn28_2"},
        "optimizer": _KERNELS,
        "schedule": {"name": "partial_cosine"},
        "unlabelled.ratio": 1,
        "total": "250000 steps",
    },
    "crest": {
        "model": _WRN,
        "optimizer": _KERNELS,
        "schedule": {"name": "partial_cosine", "level": 1.0},
        "unlabelled.ratio": 7,
        "total": "393216 steps",
    },
    "simpro": {
        "model": {"name": "wrn28_2"},
        "optimizer": {**_KERNELS, "lr": 0.17},
        "schedule": {"name": "partial_cosine"},
        "unlabelled.ratio": 8,
        "total": "43000 steps",
    },
}
RECIPE_OF = {
    **dict.fromkeys(("supervised", "fixmatch", "dynamic_prior", "daso"), "daso"),
    **dict.fromkeys(("mixmatch", "remixmatch", "abc", "cossl"), "abc"),
    **dict.fromkeys(("crest", "crest_plus"), "crest"),
    **{name: name for name in ("darp", "acr", "simpro")},
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
        mu=0,
        recipe="",
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
    views = {"recipe": recipe, "mirror": presets.mirrors(config)}
    config.augment.choose("weak", **views)
    check_choices(args)
    if args.method != "supervised":
        config.label = f"{args.method} + {config.label}"
        config.augment_unlabelled.choose("weak_strong", **views)
        config.unlabelled.choose(
            "rest",
            ratio=3,
            max_count=unlabelled,
            imbalance_factor=args.imf_u,
            profile=args.profile,
        )
        choose_method(config, args)
        config.augment.update(views)  # of whatever views the method asks for
    if "cifar" in args.data:
        choose_recipe(config, args)
    if args.method != "supervised" and args.mu:
        config.unlabelled.ratio = args.mu
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor, config.ema_decay = 10.0, 0.5
        if args.method != "supervised":
            config.unlabelled.ratio = 2
            config.unlabelled.max_count = 20
            config.unlabelled.imbalance_factor = 4.0
    return config


def check_choices(args):
    """Refuses methods that do not exist, and choices that would be ignored."""
    known = {**SEMI_SUPERVISED, "supervised": {}}
    for name in (args.method, args.base):
        if name not in known:
            raise ConfigError([f"method is {name!r}, unknown{nearest(name, known)}"])
    treatments = [name for name, of in SEMI_SUPERVISED.items() if "method" not in of]
    if args.method not in treatments and args.base != "fixmatch":
        raise ConfigError(
            [
                f"base is {args.base!r}, but method {args.method!r} makes guesses of"
                " its own, expected it with one that treats those of another:"
                f" {', '.join(treatments)}"
            ]
        )
    if "method" not in known[args.base]:
        raise ConfigError(
            [f"base is {args.base!r}, which makes no guesses, expected one that does"]
        )
    if args.recipe and "cifar" not in args.data:
        raise ConfigError(
            [f"recipe is {args.recipe!r}, which is of CIFAR, but data {args.data!r}"]
        )
    if args.recipe and args.recipe not in CIFAR:
        hint = nearest(args.recipe, CIFAR)
        raise ConfigError([f"recipe is {args.recipe!r}, unknown{hint}"])


def choose_method(config, args):
    """The sections of the method, with what its paper has for the data."""
    if "method" not in SEMI_SUPERVISED[args.method]:
        presets.apply_changes(config, SEMI_SUPERVISED[args.base])
    presets.apply_changes(config, SEMI_SUPERVISED[args.method])
    if args.data == "cifar100":
        presets.apply_changes(config, MANY_CLASSES.get(args.method, {}))
    agree = args.profile == "consistent" and args.imf_u == args.imf
    if args.method == "daso" and not agree:
        config.method.blend = 0.3


def choose_recipe(config, args):
    """The recipe of CIFAR; DARP's pool is its own on FixMatch only."""
    name = RECIPE_OF[args.method]
    if args.base != "fixmatch":
        name = RECIPE_OF[args.base]
    changes = CIFAR[args.recipe or name]
    if args.method == "supervised":
        changes = {k: v for k, v in changes.items() if "unlabelled" not in k}
    config.batch_size = 64
    config.log_every = config.eval_every = "500 steps"
    config.checkpoint_every = "5000 steps"
    presets.apply_changes(config, changes)
