r"""Partial labels: every example comes with a set of candidate labels.

    ltjax train --config configs/partial_lt.py:method=proden,q=0.3 --workdir runs/proden

Arguments: data (mnist1d, mnist, cifar10, cifar100), method, labels (a component of
`ltjax list labels` that makes candidate sets), q (ambiguity of uniform sets), imf,
smoke.

The true labels stay in the column "truth", by which the share of examples whose
confidences point at the true label is measured; no method sees them.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg,
        data="mnist1d",
        method="proden",
        labels="uniform_candidates",
        q=0.3,
        imf=100.0,
        smoke=False,
    )
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    config.method.choose(args.method)
    config.labels.name = args.labels
    if args.labels == "uniform_candidates":
        config.labels.ambiguity = args.q
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
    return config
