r"""Several labels per example: which digits are in a procedural scene.

    ltjax train --config configs/multilabel_scenes.py:method=tkpr --workdir runs/tkpr

Arguments: method (sigmoids, tkpr, distribution_balanced), imf (how much rarer the last
digit is than the first), smoke. TKPR begins with a fifth of binary cross-entropy.
Judged by mean average precision by class group, and by the measures of each example's
ranking.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(arg, method="tkpr", imf=20.0, smoke=False)
    config = default_config()
    config.data.choose("digit_sets", num_digits=8, train_size=2000, test_size=500)
    config.data.rarity = args.imf
    config.model.choose("conv2d", size=32)
    presets.apply_multi_label(config, args.method)
    config.batch_size, config.total = 64, "2000 steps"
    config.optimizer.lr, config.schedule.name = 0.05, "cosine"
    config.many, config.few = 600, 200
    config.eval_every = "20%"
    if args.smoke:
        config.data.train_size, config.data.test_size = 64, 24
        config.data.rarity = 3.0
        config.model.widths = (4, 4, 8)
        config.total, config.log_every, config.batch_size = "4 steps", "2 steps", 8
        config.eval_every = "50%"
    return config
