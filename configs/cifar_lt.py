r"""CIFAR-10/100-LT, ResNet-32, the standard recipe of the field (Cao et al. 2019).

    ltjax prepare cifar10
    ltjax train --config configs/cifar_lt.py:method=ldam_drw,imf=100 --workdir runs/c10

Arguments: classes (10 or 100), method, gradient, imf, profile (exp or step), init_from
(the workdir of a finished run, in place of the first stage of crt, lws and mislas; that
of mislas has method.mixup=1), bound_from (the workdir of a tla_adrw run with
config.bound, whose history chooses the second phase), smoke.

SGD, momentum 0.9, no Nesterov, coupled weight decay 2e-4 on all parameters, batch 128,
200 epochs; the rate climbs to 0.1 over 5 epochs (constant within each), then 0.001
from epoch 160 and 0.00001 from epoch 180. Zero-padding by 4 before normalization,
random crop, horizontal flip. Deferred methods switch at epoch 160. The last incomplete
batch of an epoch is dropped (static shapes); the published code keeps it.

Published accuracy (ResNet-32, 200 epochs, exp 100; last or best epoch as the source has
it): CIFAR-10 CE 71.25, LDAM-DRW 77.97, VS 80.29, TLA+ADRW 80.81; CIFAR-100 CE 38.06,
LDAM-DRW 42.73, VS 42.67, TLA+ADRW 43.20 (Wang et al. 2023).
"""

from ltjax.methods import presets
from ltjax.methods.supervised.bound_schedule import apply_bound_schedule
from ltjax.train.config import default_config, parse_arg

# Published settings by (classes, profile, imbalance factor), Wang et al. 2023:
# gamma and tau before epoch 160, nu and tau after.
_TLA_ADRW = {
    (100, "exp", 100): (0.05, 1.0, 0.25, 0.75),
    (100, "exp", 10): (0.05, 0.5, 0.10, 0.75),
    (100, "step", 100): (0.0, 1.0, 0.10, 1.0),
    (100, "step", 10): (0.0, 1.0, 0.05, 1.0),
    (10, "exp", 100): (0.05, 1.0, 0.15, 1.0),
    (10, "exp", 10): (0.0, 1.0, 0.10, 1.0),
    (10, "step", 100): (0.0, 1.25, 0.10, 1.0),
    (10, "step", 10): (0.0, 1.0, 0.10, 1.0),
}


def get_config(arg=""):
    args = parse_arg(
        arg,
        classes=10,
        method="ce",
        gradient="plain",
        imf=100.0,
        profile="exp",
        init_from="",
        bound_from="",
        smoke=False,
    )
    config = default_config()
    config.data.name = f"cifar{args.classes}"
    config.data.profile = args.profile
    config.data.imbalance_factor = args.imf
    config.data.max_count = 50_000 // args.classes
    config.augment.name = "cifar"
    config.model.name = "resnet32"
    config.batch_size = 128
    config.total = "200 epochs"
    config.optimizer.lr = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 2e-4
    config.optimizer.decay = "all"
    config.schedule.name = "warmup_multistep"
    config.schedule.warmup = "5 epochs"
    config.schedule.milestones = (160, 180)
    config.schedule.factors = (1e-2, 1e-4)
    config.log_every = "1 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    config.init_from = args.init_from
    many = args.classes == 100
    presets.apply_preset(config, args.method, late="160 epochs", many_classes=many)
    if args.method == "tla_adrw":
        published = _TLA_ADRW.get((args.classes, args.profile, int(args.imf)))
        if published:
            loss = config.loss
            loss.gamma, loss.tau, config.weights.power, loss.tau_late = published
    if args.bound_from:
        apply_bound_schedule(config, args.bound_from)
    rho = {"sam": 0.1, "asam": 0.5 if args.classes == 10 else 1.0}
    changes = {"rho": rho[args.gradient]} if args.gradient in rho else {}
    if args.gradient in ("sam", "asam"):
        # Rangwani et al. 2022: larger radii pay with re-weighted losses.
        drw = {"ce_drw": 0.5, "ldam_drw": 0.8} if args.classes == 10 else {}
        drw = drw or {"ce": 0.2, "ce_drw": 0.8, "ldam_drw": 0.8}
        if args.gradient == "sam":
            changes["rho"] = drw.get(args.method, changes["rho"])
    if args.gradient == "sse_sam":
        changes["eta"] = 1000 if args.classes == 10 else 100
    if args.gradient == "imbsam":
        changes["eta"] = 200 if args.classes == 10 else 20
    if args.gradient == "focal_sam" and args.classes == 100:
        changes |= {"rho": 0.3, "focal_gamma": 3.2, "focal_lambda": 0.8}
    presets.apply_gradient(config, args.gradient, **changes)
    if args.smoke:
        config.data.max_count = 200
        config.batch_size = 16
        config.log_every = "2 steps"
        config.model.name = "resnet20"
        presets.apply_preset(config, args.method, late="3 steps", many_classes=many)
        config.schedule.warmup = "0 epochs"
        config.total = "6 steps"
        presets.apply_gradient(config, args.gradient, **changes)
    return config
