r"""Areas under the ROC curve as the objective: one-vs-one and one-vs-rest surrogates.

    ltjax train --config configs/auc_lt.py:method=auc_square --workdir runs/auc

Arguments: data (mnist1d, mnist, cifar10, cifar100; breast_cancer, digits or wine, which
come with scikit-learn), method (auc_square, auc_hinge,
auc_exp, auc_logistic; partial_auc, partial_auc_cvar, partial_auc_kl; aucm, the min-max
form; autkc, the area under the top-k curve after 30 % of cross-entropy; or a preset of
the supervised losses to compare with), binary (the second half of
the classes against the first), imf, smoke. Runs are judged by exact areas over all
pairs of classes, beside accuracies.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg

BUNDLED = ("breast_cancer", "digits", "wine")
SECOND_HALF = {"cifar100": 50, "breast_cancer": 1, "wine": 2}  # begins with


def get_config(arg=""):
    args = parse_arg(
        arg, data="mnist1d", method="auc_square", imf=100.0, binary=False, smoke=False
    )
    config = default_config()
    if args.data in BUNDLED:
        presets.apply_data(config, "mnist1d", imbalance_factor=args.imf)
        config.data.choose("bundled", which=args.data, imbalance_factor=args.imf)
        if args.data == "digits":
            config.model.choose("conv2d", size=8)
        else:
            config.model.choose("mlp")
        config.total, config.many, config.few = "500 steps", 50, 20
    else:
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
        config.data.positive_from = SECOND_HALF.get(args.data, 5)
    # One class against the rest is learned by sigmoids, which softmax would compare.
    two = args.binary or args.data == "breast_cancer"
    columns = args.method == "aucm" and not two
    config.evaluators = {
        "auc": {"scores": "sigmoid" if columns else "softmax"},
        "classification": {},
    }
    if args.method == "autkc":
        config.weights.start = "30%"
        config.loss.k = 1 if two else 3 if args.data == "wine" else 5
        config.evaluators = {**config.evaluators, "top_k": {"k": config.loss.k}}
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
    return config
