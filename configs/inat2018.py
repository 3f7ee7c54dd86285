r"""iNaturalist 2018: 8142 species, 437,513 images, 1000 to 2 per class.

    ltjax train --config configs/inat2018.py:method=ce --workdir runs/inat_ce
    ltjax train --config configs/inat2018.py:method=crt,init_from=runs/inat_ce \
        --workdir runs/inat_crt

Data: LTJAX_DATA_DIR/inaturalist18 with iNaturalist18_{train,val}.txt and the images
that they name. Labels of the test set were never published: the validation set takes
its place, so nothing may be chosen on it (`keep_best` is off, and tau of `ltjax eval
--classifier tau_norm` must be given or chosen on `data.holdout`). Arguments: recipe,
method, gradient, backbone, epochs, init_from, workers, smoke, classes.

Recipes:

- kang (Kang et al. 2020): batch 512, 90 or 200 epochs, SGD 0.2 with momentum 0.9,
  cosine by epoch, weight decay 1e-4, no color jitter; cRT 30 epochs. Recalled from the
  paper, ResNet-50, 90/200 epochs: joint 61.7/65.8, NCM 58.2/63.1, cRT 65.2/67.6,
  tau-norm 65.6/69.3, LWS 65.9/69.5 (tau chosen on the test set).
- cb (Cui et al. 2019), method=cb_focal: batch 1024, rate 0.4 per 256, 90 epochs, five
  of warm-up, times 0.1 at 30, 60 and 80; beta 0.999, gamma 0.5, weight decay 1e-4.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

# Batch, base rate, milestones (none = cosine by epoch).
RECIPES = {"kang": (512, 0.2, ()), "cb": (1024, 1.6, (30, 60, 80))}


def get_config(arg=""):
    args = parse_arg(
        arg,
        recipe="kang",
        method="ce",
        gradient="plain",
        backbone="resnet50",
        epochs=90,
        init_from="",
        workers=8,
        classes=0,
        smoke=False,
    )
    if args.recipe not in RECIPES:
        hint = nearest(args.recipe, RECIPES)
        raise ConfigError([f"config argument recipe is {args.recipe!r}, unknown{hint}"])
    batch, rate, milestones = RECIPES[args.recipe]
    config = default_config()
    data = config.data
    data.name, data.profile = "inaturalist18", "none"
    data.feed, data.workers = "streaming", args.workers
    config.augment.name = "inaturalist"
    config.model.name, config.model.dtype = args.backbone, "bfloat16"
    config.batch_size, config.total = batch, f"{args.epochs} epochs"
    optimizer = config.optimizer
    optimizer.lr, optimizer.weight_decay = rate, 1e-4
    if milestones:
        config.schedule.choose(
            "warmup_multistep",
            milestones=milestones,
            factors=tuple(0.1 ** (k + 1) for k in range(len(milestones))),
            warmup="5 epochs",
        )
    else:
        config.schedule.choose("cosine", per_epoch=True)
    config.log_every, config.eval_every = "100 steps", "10 epochs"
    config.checkpoint_every = "1 epochs"
    config.init_from = args.init_from
    presets.apply_preset(config, args.method, late=f"{args.epochs * 8 // 10} epochs")
    if args.method == "crt":
        config.total = "30 epochs"
    if args.recipe == "cb":
        if config.weights.name == "class_balanced":
            config.weights.beta = 0.999
        if config.loss.name in ("focal", "sigmoid_focal"):
            config.loss.gamma = 0.5
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
