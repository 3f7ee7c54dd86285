r"""An image and a signal of the same digit: how several modalities learn together.

    ltjax train --config configs/multimodal_digits.py:method=reconboost --workdir runs/m

Arguments: method (reconboost, joint, ogm, late), imf, smoke. The image of 30 % of the
examples is noise, so that neither modality is enough. Judged by balanced accuracy, of
both together and of each by itself.

Every method has the same encoders. `late` has a classifier for each modality, so that
it is two runs in one; the others share one, as ReconBoost has it. The boost rate is no
kernel, and does not decay.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

METHODS = ("reconboost", "joint", "ogm", "late")


def get_config(arg=""):
    args = parse_arg(arg, method="reconboost", imf=10.0, smoke=False)
    if args.method not in METHODS:
        raise ConfigError(
            [f"method is {args.method!r}, unknown{nearest(args.method, METHODS)}"]
        )
    config = default_config()
    config.data.choose("multimodal_digits", absent_image=0.3)
    config.data.imbalance_factor = args.imf
    config.augment.choose("shift_each")
    config.model.choose("modalities")
    config.method.choose(args.method)
    config.head.choose("fusion", shared=args.method != "late")
    config.label = args.method
    config.batch_size, config.total = 64, "3000 steps"
    config.optimizer.choose("sgd", lr=0.05, weight_decay=5e-4, decay="kernels")
    config.schedule.choose("cosine", warmup="3%")
    config.many, config.few = 200, 100
    if args.smoke:
        config.data.train_per_class, config.data.test_per_class = 60, 10
        config.data.size, config.model.widths, config.head.hidden = 12, (4, 8), 8
        presets.apply_smoke(config)
        if args.method == "reconboost":
            config.method.alone, config.method.together = "2 steps", "1 steps"
    return config
