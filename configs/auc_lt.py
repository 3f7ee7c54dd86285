r"""Areas under the ROC curve as the objective: one-vs-one and one-vs-rest surrogates.

    ltjax train --config configs/auc_lt.py:method=auc_square --workdir runs/auc

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (auc_square, auc_hinge,
auc_exp, auc_logistic; partial_auc, partial_auc_cvar, partial_auc_kl; aucm, the min-max
form; or a preset of the supervised losses to compare with), binary (the second half of
the classes against the first), imf, smoke. Runs are judged by exact areas over all
pairs of classes, beside accuracies.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg, data="mnist1d", method="auc_square", imf=100.0, binary=False, smoke=False
    )
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    if args.method in presets.PRESETS:
        presets.apply_preset(config, args.method, late="80%")
    elif args.method == "aucm":
        config.method.choose("aucm")
        config.label = args.method
    else:
        config.loss.choose(args.method)
        config.label = args.method
    if args.binary:
        config.data.positive_from = 50 if args.data == "cifar100" else 5
    # One class against the rest is learned by sigmoids, which softmax would compare.
    columns = args.method == "aucm" and not args.binary
    config.evaluators = {
        "auc": {"scores": "sigmoid" if columns else "softmax"},
        "classification": {},
    }
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
    return config
