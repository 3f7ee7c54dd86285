r"""Features of a denoising diffusion network, content shift, and what lowers it (GATE).

    ltjax train --config configs/diffusion_digits.py:method=steered --workdir runs/gate

Arguments: method (denoising, the network alone; steered, and then a control branch and
corrections of low rank on top of it, with the score of every technique; blended, and
then a classifier on the blended features of techniques), data (glyphs, made on the
spot; mnist; scenes, with a class for every pixel), imf (of the long-tailed subset),
smoke.

Stages of `steered` and `blended` lie in folders of their own and start from the one
before. Low-rank corrections are tuned on the few images of a balanced subset, as
published; here 30.
"""

from ltjax.methods import presets
from ltjax.options import ConfigError, nearest
from ltjax.train.config import default_config, parse_arg

METHODS = ("denoising", "steered", "blended")
DATA = ("glyphs", "mnist", "scenes")
TECHNIQUES = ["pseudo", "control", "low_rank"]
LOW_RANK_IMAGES = 30


def _data(config, name: str, imf: float) -> None:
    if name == "scenes":
        config.data.name, config.data.rarity = "digit_scenes", imf
        config.augment.name = "none"
        config.many, config.few = 50_000, 10_000  # pixels
        return
    config.data.name = {"glyphs": "digit_glyphs"}.get(name, name)
    config.data.imbalance_factor = imf
    config.augment.name = "normalize"
    if name == "mnist":
        config.data.max_count = 2000
        config.augment.mean, config.augment.std = (0.5,), (0.5,)
    config.many, config.few = 200, 60


def _tuned(technique: str, **more) -> dict:
    """A stage that tunes what a technique needs, on the network as it is."""
    return {
        "name": technique,
        "method.trains": technique,
        "optimizer.train": technique,
        "init_skip": (technique,),
        "ema_decay": 0.0,
        "evaluate_ema": False,
        "evaluators": {"denoising": {}},
        **more,
    }


def _few_images(name: str) -> dict:
    """Of the low-rank stage: 30 images, as published."""
    if name == "scenes":
        return {"data.train_size": LOW_RANK_IMAGES}
    return {"data.profile": "counts", "data.counts": (LOW_RANK_IMAGES // 10,) * 10}


def _blended(pixels: bool, total: str) -> dict:
    """A classifier on the features of every technique that needs no label."""
    judges = {"segmentation": {}, "pictures": {}} if pixels else {"classification": {}}
    return {
        "name": "classifier",
        "label": "Blended diffusion features",
        "method": {
            "name": "diffusion_features",
            "techniques": ("none", *TECHNIQUES[1:]),
            "pixels": pixels,
        },
        "head": {"name": "blending", "pixels": pixels, "width": 32},
        "optimizer.train": "head",
        "init_skip": ("head",),
        "ema_decay": 0.0,
        "evaluate_ema": False,
        "evaluators": judges,
        "total": total,
    }


def get_config(arg=""):
    args = parse_arg(arg, method="denoising", data="glyphs", imf=20.0, smoke=False)
    for name, known in (("method", METHODS), ("data", DATA)):
        if args[name] not in known:
            raise ConfigError([f"{name} is {args[name]!r}{nearest(args[name], known)}"])
    config = default_config()
    _data(config, args.data, args.imf)
    config.model.choose("diffusion_unet", width=16, control=True, low_rank=4)
    config.method.choose("denoising")
    config.optimizer.choose("adamw", lr=2e-3, weight_decay=0.0)
    config.schedule.choose("cosine", warmup="5%")
    config.batch_size, config.total = 64, "2000 steps"
    config.ema_decay, config.evaluate_ema = 0.995, True
    config.label = "Denoising"
    probe = {"times": [10, 50, 100], "layers": ["bottom", "up1"]}
    if args.method != "denoising" or args.smoke:
        probe = {"times": [50], "layers": ["up1"]}
    config.evaluators = {"denoising": {}, "diffusion_probe": probe}
    if args.smoke:
        presets.apply_smoke(config, steps=4)
        config.model.width, config.model.multipliers = 4, (1, 1)
        config.model.attends = 8
        if args.data == "glyphs":
            config.data.train_per_class, config.data.test_per_class = 30, 4
        if args.data == "scenes":
            config.data.train_size = config.data.test_size = 24
            config.data.rarity = 3.0  # every class occurs in the few scenes
    if args.method == "denoising":
        return config

    short = config.total if args.smoke else "500 steps"
    judges = {
        "gate": {"techniques": ["prompt", *TECHNIQUES]},
        "diffusion_probe": {**probe, "techniques": TECHNIQUES},
    }
    config.stages = (
        {"name": "pretrain", "evaluators": {"denoising": {}}},
        _tuned("low_rank", total=short, batch_size=10, **_few_images(args.data)),
        _tuned("control", total=short, evaluators=judges),
    )
    if args.method == "blended":
        config.stages += (_blended(args.data == "scenes", short),)
    return config
