r"""ImageNet-LT (Liu et al. 2019): 1000 classes, 115,846 images, 1280 to 5 per class.

    ltjax train --config configs/imagenet_lt.py:method=ce --workdir runs/inlt_ce
    ltjax train --config configs/imagenet_lt.py:method=crt,init_from=runs/inlt_ce \
        --workdir runs/inlt_crt
    ltjax eval runs/inlt_ce --classifier tau_norm      # tau chosen on the val list

Data: LTJAX_DATA_DIR/imagenet_lt with ImageNet_LT_{train,val,test}.txt and the images
that they name. Arguments: recipe, method, gradient, backbone, init_from, workers, smoke
(64 pixels, a small network, a few steps), classes (of a smaller list).

Recipes:

- kang (Kang et al. 2020): batch 512, 90 epochs, SGD 0.2 with momentum 0.9, cosine by
  epoch to 0, no warm-up, weight decay 5e-4. Published, ResNeXt-50, many/medium/few/all:
  CE 65.9 37.5 7.7 44.4, cRT 61.8 46.2 27.4 49.6, LWS 60.2 47.2 30.3 49.9, tau-norm 59.1
  46.9 30.7 49.4, NCM 56.6 45.3 28.1 47.3. With backbone=resnet10 and
  method=balanced_softmax this is BALMS's setting: softmax 34.8, BALMS 41.6.
- oltr (Liu et al. 2019), first stage, backbone=resnet10: batch 128, 30 epochs, 0.1,
  times 0.1 every ten epochs.
- etf (Yang et al. 2022), method=etf_dr, backbone=resnet50 with 4096 features: batch
  1024, 90 epochs, 0.1, cosine by epoch, mixup 0.2. Published 41.8 (CE 34.6). Features
  are normalized here; the authors' are not, and have their norm penalized instead.
- cb (Cui et al. 2019), method=cb_focal: batch 1024, rate 0.2 per 256, 90 epochs, five
  of warm-up, times 0.1 at 30, 60 and 80; beta 0.999, gamma 0.5, weight decay 1e-4.

Files are read at 256 x 256 (shorter side resized, center cut); random resized crop to
224, flip and color jitter 0.4 run on the device. No result of ours yet: one run costs
about a day of an accelerator.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# Batch, base rate, weight decay, epochs, milestones (none = cosine by epoch).
RECIPES = {
    "kang": (512, 0.2, 5e-4, 90, ()),
    "oltr": (128, 0.1, 5e-4, 30, (10, 20)),
    "etf": (1024, 0.1, 5e-4, 90, ()),
    "cb": (1024, 0.8, 1e-4, 90, (30, 60, 80)),
}


def get_config(arg=""):
    args = parse_arg(
        arg,
        recipe="kang",
        method="ce",
        gradient="plain",
        backbone="resnext50",
        init_from="",
        workers=8,
        classes=0,
        smoke=False,
    )
    if args.recipe not in RECIPES:
        hint = nearest(args.recipe, RECIPES)
        raise ConfigError([f"config argument recipe is {args.recipe!r}, unknown{hint}"])
    batch, rate, decay, epochs, milestones = RECIPES[args.recipe]
    config = default_config()
    data = config.data
    data.name, data.profile, data.val_split = "imagenet_lt", "none", "val"
    data.feed, data.workers = "streaming", args.workers
    config.augment.name = "imagenet"
    config.model.name, config.model.dtype = args.backbone, "bfloat16"
    config.batch_size, config.total = batch, f"{epochs} epochs"
    optimizer = config.optimizer
    optimizer.lr, optimizer.weight_decay = rate, decay
    if milestones:
        config.schedule.choose(
            "warmup_multistep",
            milestones=milestones,
            factors=tuple(0.1 ** (k + 1) for k in range(len(milestones))),
            warmup="5 epochs" if args.recipe == "cb" else "0 epochs",
        )
    else:
        config.schedule.choose("cosine", per_epoch=True)
    config.log_every, config.eval_every = "50 steps", "5 epochs"
    config.checkpoint_every, config.keep_best = "1 epochs", True
    config.init_from = args.init_from
    presets.apply_preset(config, args.method, late=f"{epochs * 8 // 10} epochs")
    if args.recipe == "cb":
        if config.weights.name == "class_balanced":
            config.weights.beta = 0.999
        if config.loss.name in ("focal", "sigmoid_focal"):
            config.loss.gamma = 0.5
    if args.recipe == "etf":
        config.method.mixup = 0.2
        config.model.widths = (64, 128, 256, 1024)
    presets.apply_gradient(config, args.gradient)
    if args.classes:
        data.num_classes = args.classes
    if args.smoke:
        data.resize, data.crop = 64, 64
        config.augment.size, data.workers = 64, min(args.workers, 1)
        config.model.name, config.model.dtype = "resnet10", "float32"
        config.model.widths = (8, 8, 16, 16)
        config.batch_size, config.total = 8, "4 steps"
        config.schedule.warmup = "0 epochs"
        config.log_every, config.eval_every = "2 steps", "100%"
        config.checkpoint_every, config.eval_batch_size = "100%", 8
    return config
