r"""Several experts for test sets whose class frequencies are not known.

    ltjax train --config configs/experts_lt.py:method=sade --workdir runs/sade

Arguments: data (mnist1d, mnist, cifar10, cifar100), method (ride, ride_routed,
ride_distilled, sade, dirmixe, or a preset of the supervised losses to compare with),
imf, smoke. Judged by accuracy under long-tailed, uniform and reversed test priors.

CIFAR has the published recipe: a ResNet-32 that splits into three experts after its
first stage, with cosine classifiers, and a rate that rises for five epochs and falls to
a tenth at 160 and at 180. The small networks have experts with a hidden layer each.
`ride_routed` is two stages: `0_experts`, and `1_router`, five epochs of class-balanced
batches in which only the router learns. `ride_distilled` as well: `0_teacher` has six
experts, and the three of `1_student` start afresh and follow it.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg

EXPERTS = ("ride", "ride_routed", "ride_distilled", "sade", "dirmixe")


def get_config(arg=""):
    args = parse_arg(arg, data="mnist1d", method="sade", imf=100.0, smoke=False)
    config = default_config()
    presets.apply_data(config, args.data, imbalance_factor=args.imf)
    cifar = args.data.startswith("cifar")
    if args.method not in EXPERTS:
        presets.apply_preset(config, args.method, late="80%")
    else:
        config.method.choose(args.method.partition("_")[0])
        config.label = args.method
        if cifar:
            config.model.choose("resnet32_experts")
            config.head.choose("experts", own_features=True)
            config.optimizer.nesterov, config.optimizer.weight_decay = True, 5e-4
            if args.method == "dirmixe" and args.data == "cifar100":
                config.optimizer.weight_decay = 1e-3
        else:
            config.head.choose("experts", hidden=64)
    if config.method.name == "ride":
        config.weights.choose("class_balanced", beta=0.9999, start="80%")
    if args.method == "dirmixe":
        config.method.spread = 5.0 if args.data == "cifar100" else 15.0
    if cifar:
        steps = {"milestones": (160, 180), "factors": (0.1, 0.01)}
        config.schedule.choose("warmup_multistep", warmup="5 epochs", **steps)
    if args.data == "cifar10":
        config.many, config.few = 1000, 200
    size = {"cifar10": 1000.0}.get(args.data, 100.0)
    config.evaluators = {"test_priors": {"size": size}, "classification": {}}
    if args.smoke:
        presets.apply_smoke(config)
        if cifar:
            config.schedule.warmup = "0 epochs"
        config.data.imbalance_factor = 10.0
    if args.method == "ride_routed":
        config.head.router = True
        router = {
            "name": "router",
            "label": "ride + router",
            "method": {"name": "ride_router"},
            "weights": {"name": "none"},
            "sampler": {"name": "class_balanced"},
            "optimizer.train": "head/router",
            "optimizer.lr": 0.01,
            "batch_size": 16 if args.smoke else 512,
            "total": "4 steps" if args.smoke else "5 epochs",
        }
        if cifar:
            router["schedule"] = {"name": "cosine"}
        config.stages = ({"name": "experts"}, router)
    if args.method == "ride_distilled":
        teacher = {"name": "teacher", "label": "ride, six experts"}
        teacher["head.num_experts"] = 6
        if cifar:
            teacher["model.experts"] = 6
        student = {
            "name": "student",
            "label": "ride + teacher",
            "init_from": "",
            "method.teacher": 1.0,
            "columns_from": {"teacher": "stage:teacher#logits"},
        }
        config.stages = (teacher, student)
    return config
