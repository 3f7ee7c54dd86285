r"""Areas under the ROC curve that hold under perturbed inputs: DRAUC against AUCM.

    ltjax train --config configs/robust_auc.py:method=drauc --workdir runs/drauc

Arguments: data (mnist1d, mnist, cifar10, cifar100; glyphs, made on the spot), method
(aucm; drauc, one budget for all; drauc_aware, budgets by class; ce), share (of the
positives, the second half of the classes), ratio (k of drauc_aware), smoke. Images are
judged corrupted as well, at five severities.

Inputs are as the network sees them. Images keep the range of their pixels; the signals
of MNIST-1D have none.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg

# (radius, step of the attack, range) in units of the normalized inputs: the published
# 128/255 and 15/255 of images, divided by the mean deviation of a channel.
ATTACKS = {
    "mnist1d": (1.0, 0.2, ()),
    "mnist": (1.63, 0.19, (-0.4242, 2.8215)),
    "glyphs": (1.0, 0.12, (-1.0, 1.0)),
    "cifar10": (2.03, 0.24, (-1.9, 2.1)),
    "cifar100": (1.9, 0.22, (-1.9, 2.0)),
}


def get_config(arg=""):
    args = parse_arg(
        arg, data="mnist1d", method="drauc", share=0.1, ratio=0.8, smoke=False
    )
    config = default_config()
    odds = (1 - args.share) / args.share
    if args.data == "glyphs":
        presets.apply_data(config, "mnist", imbalance_factor=odds)
        config.data.choose("digit_glyphs", size=28, imbalance_factor=odds)
        config.data.max_count = 0
        config.augment.choose("normalize")
    else:
        presets.apply_data(config, args.data, imbalance_factor=odds)
    if args.data.startswith("cifar"):
        config.optimizer.weight_decay = 5e-4
    config.data.positive_from = 50 if args.data == "cifar100" else 5
    config.label = args.method
    if args.method == "ce":
        presets.apply_preset(config, "ce", late="80%")
    else:
        config.method.choose(args.method.removesuffix("_aware"))
    if config.method.name == "drauc":
        radius, step, box = ATTACKS[args.data]
        config.method.radius, config.method.attack_lr = radius, step
        config.method.box = box
        config.method.aware = args.method.endswith("_aware")
        config.method.ratio = args.ratio
    config.evaluators = {"auc": {}, "classification": {}}
    if not presets.is_signal(config):
        config.data.corruptions = ("all",)
        config.evaluators = {**config.evaluators, "corruptions": {"measure": "auc"}}
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 4.0
        if config.method.name == "drauc":
            config.method.steps, config.method.period = 2, 2
    return config
