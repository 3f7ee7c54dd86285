r"""Segmentation of procedural digit scenes, whose pixel counts are long-tailed.

    ltjax train --config configs/segmentation_scenes.py:method=la --workdir runs/scenes

Arguments: method (a preset of the supervised losses, by pixel counts, or aucseg), imf
(how much rarer the last digit is than the first), smoke. A small U-Net on scenes at
random sizes and places, judged by mean intersection over union, by class group.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(arg, method="ce", imf=20.0, smoke=False)
    config = default_config()
    config.data.name = "digit_scenes"
    config.data.rarity = args.imf
    config.model.name = "unet"
    # Mirrored digits are no digits.
    config.augment.choose("scale_crop", flip=False, mean=(0.5,), std=(0.5,))
    config.batch_size, config.total = 16, "1500 steps"
    config.optimizer.lr, config.schedule.name = 0.2, "cosine"
    config.many, config.few = 50_000, 10_000  # pixels
    config.evaluators = {"segmentation": {}, "pictures": {}}
    config.eval_every, config.eval_batch_size = "20%", 50
    auc = args.method == "aucseg"
    presets.apply_preset(config, "ce" if auc else args.method, late="80%")
    config.method.choose("aucseg" if auc else "pixelwise")
    if auc:
        config.label = "AUCSeg"
    if args.smoke:
        config.data.train_size, config.data.test_size = 48, 24
        config.data.rarity = 3.0  # every class occurs in the few scenes
        config.model.width = 4
        config.total, config.log_every, config.batch_size = "4 steps", "2 steps", 8
        config.eval_every = "50%"
    return config
