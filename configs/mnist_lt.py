r"""MNIST, long-tailed: real images that train in a minute or two on two CPU cores.

    export LTJAX_DATA_DIR=...          # a folder of prepared TFDS data sets
    ltjax prepare mnist                # once, needs a network
    ltjax train --config configs/mnist_lt.py:method=la --workdir runs/mnist_la

Arguments: method, gradient, imf, profile, feed (resident or streaming), init_from (the
workdir of a finished run; crt and lws need it), bound_from (the workdir of a tla_adrw
run with config.bound, whose history chooses the second phase), smoke.
Setting: exp profile, 5000 images in the largest class, a 3-layer conv net, SGD with
momentum 0.9, cosine, 1500 steps of 128. Expected at ratio 100: more than 96 % balanced
test accuracy with method=la.
"""

from ltjax.methods import presets
from ltjax.methods.supervised.bound_schedule import apply_bound_schedule
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg,
        method="ce",
        gradient="plain",
        imf=100.0,
        profile="exp",
        feed="resident",
        init_from="",
        bound_from="",
        smoke=False,
    )
    config = default_config()
    config.data.name = "mnist"
    config.data.profile = args.profile
    config.data.imbalance_factor = args.imf
    config.data.max_count = 5000
    config.data.feed = args.feed
    config.augment.name = "shift"
    config.model.name = "conv2d"
    config.total = "1500 steps"
    config.optimizer.lr = 0.1
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "3%"
    config.log_every = "100 steps"
    config.eval_every = "50%"
    config.many, config.few = 1000, 200  # 4 many, 3 medium, 3 few at ratio 100
    config.init_from = args.init_from
    presets.apply_preset(config, args.method, late="80%")
    if args.bound_from:
        apply_bound_schedule(config, args.bound_from)
    presets.apply_gradient(config, args.gradient)
    if args.gradient in ("imbsam", "sse_sam"):
        config.gradient.eta = 200
    if args.smoke:
        config.data.max_count = 200
        config.total = "10 steps"
        config.log_every = "5 steps"
        config.batch_size = 32
    return config
