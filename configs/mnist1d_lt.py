r"""MNIST-1D, long-tailed: the demo's data, three minutes on a laptop.

    ltjax train --config configs/mnist1d_lt.py:method=la --workdir runs/mnist1d_la

Arguments: method (see METHODS), imf (imbalance factor), profile, gradient,
init_from (a finished run's workdir: method=crt or lws continues it), bound_from (the
workdir of a tla_adrw run with config.bound, whose history chooses the second phase),
smoke.
Setting: exp profile, 2000 examples in the largest class, a 3-layer conv net (32-64-64),
SGD with momentum 0.9, 3000 steps of 128, 3 seeds as replicas. Expected balanced test
accuracy at ratio 100: see Results in README.md.
"""

from ltjax.methods import presets
from ltjax.methods.supervised.bound_schedule import apply_bound_schedule
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg,
        method="ce",
        imf=100.0,
        profile="exp",
        gradient="plain",
        init_from="",
        bound_from="",
        smoke=False,
    )
    config = default_config()
    config.data.name = "mnist1d"
    config.data.profile = args.profile
    config.data.imbalance_factor = args.imf
    config.data.max_count = 2000
    config.many, config.few = 200, 60  # 5 many, 2 medium, 3 few at ratio 100
    config.model.name = "conv1d"
    config.total = "3000 steps"
    config.optimizer.lr = 0.05
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "3%"
    config.replicas.seeds = (0, 1, 2)
    config.log_every = "250 steps"
    config.eval_every = "20%"
    config.init_from = args.init_from
    presets.apply_preset(config, args.method, late="80%")
    if args.bound_from:
        apply_bound_schedule(config, args.bound_from)
    presets.apply_gradient(config, args.gradient)
    if args.gradient in ("imbsam", "sse_sam"):
        config.gradient.eta = 200  # the five largest classes are head
    if args.smoke:
        config.total = "20 steps"
        config.data.train_per_class, config.data.test_per_class = 200, 20
        config.data.max_count = 200
        config.log_every = "10 steps"
        config.replicas.seeds = (0,)
    return config
