r"""Self-supervised pre-training on long-tailed data, then a linear probe.

    ltjax train --config configs/selfsup_lt.py:method=simclr --workdir runs/simclr

Arguments: data (mnist1d, mnist, cifar10, cifar100), method, imf, probe (off: pre-train
only), smoke. The run is two stages: `0_pretrain`, judged by the vote of the nearest
training features, and `1_probe`, a linear classifier on the frozen features, trained on
the same long-tailed set with class-balanced batches.

Setting: batch 256, temperature 0.2 (Kukleva et al. 2023), SGD with cosine; the views of
1-D signals are circular shifts, ramps and smooth noise.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg, data="mnist1d", method="simclr", imf=100.0, probe=True, smoke=False
    )
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    augment = dict(config.augment.items())
    signal = presets.is_signal(config)
    config.method.choose(args.method)
    config.label = args.method
    config.augment.choose("two_views", recipe="signal" if signal else "simclr_cifar")
    config.head.choose("projection", width=128, dim=64)
    config.batch_size, config.optimizer.lr = 256, 0.3
    config.optimizer.weight_decay = 1e-4
    if args.smoke:
        presets.apply_smoke(config)
        config.data.imbalance_factor = 10.0
    if args.probe:
        probe = {
            "name": "probe",
            "label": f"{args.method} + linear probe",
            "method": {"name": "supervised"},
            "head": {"name": "linear"},
            "augment": augment,
            "sampler": {"name": "class_balanced"},
            "optimizer.train": "head",
            "optimizer.lr": 0.5,
            "init_skip": ("head",),
            "total": "4 steps" if args.smoke else "1000 steps",
        }
        config.stages = ({"name": "pretrain"}, probe)
    return config
