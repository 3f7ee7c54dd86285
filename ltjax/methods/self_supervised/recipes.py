"""Published recipes of learning without labels on CIFAR-LT and ImageNet-LT.

For `configs/selfsup_lt.py`, by the images ("cifar" or "imagenet"; no paper has one for
"mnist") and the name of a method there. Where a paper has no long-tailed CIFAR of its
own (MoCo, BYOL, MoCLR, divide and contrast), the values are ours.

References:
    Jiang et al. 2021 (SimCLR, SDCLR), Kukleva et al. 2023 (TS), Zhou et al. 2022 (BCL),
    Zhou et al. 2023 (GH, Focal), Khosla et al. 2020 (SupCon), Chen et al. 2020 (MoCo
    v2), Chen and He 2021 (SimSiam), Liu et al. 2022 (rwSAM; SimSiam on CIFAR), Grill et
    al. 2020 (BYOL), Tian et al. 2021 (MoCLR, DnC), Yang and Xu 2020 (rotation).
"""

# Batch, rate, weight decay and epochs of the papers; "" is SimCLR and what is built on
# it. With LARS the rate is the papers' base rate times batch / 256.
RECIPES = {
    "cifar": {
        "": (512, 0.5, 1e-4, 2000),
        "focal": (512, 0.5, 5e-4, 1000),  # that of GH's comparisons
        "bcl": (512, 0.5, 5e-4, 2000),
        "gh": (512, 0.5, 5e-4, 1000),
        "moco": (512, 0.06, 1e-4, 2000),
        "rwsam_moco": (512, 0.06, 1e-4, 2000),
        "simsiam": (512, 0.06, 5e-4, 800),
        "rwsam": (512, 0.06, 5e-4, 1600),
        "dnc": (512, 0.5, 1e-4, 800),
        "rotation": (128, 0.1, 2e-4, 200),
        "sup_con": (1024, 0.5, 1e-4, 1000),
        "kcl": (1024, 0.5, 1e-4, 1000),
        "paco": (128, 0.05, 5e-4, 400),
        "balanced_contrastive": (256, 0.15, 5e-4, 200),
    },
    "imagenet": {
        "": (256, 0.5, 1e-4, 500),
        "ts": (256, 0.5, 1e-4, 800),
        "moco": (128, 0.015, 1e-4, 200),
        "rwsam_moco": (128, 0.015, 1e-4, 300),
        "simsiam": (512, 0.1, 1e-4, 100),
        "rwsam": (512, 0.1, 1e-4, 100),
        "byol": (4096, 4.8, 1e-6, 300),
        "moclr": (4096, 4.8, 1.5e-6, 300),
        "dnc": (4096, 8.0, 1.5e-6, 200),
        "rotation": (128, 0.1, 2e-4, 90),
        "paco": (128, 0.02, 5e-4, 400),
        "balanced_contrastive": (256, 0.1, 5e-4, 90),
    },
}
LARS = ("byol", "moclr", "dnc")
# Hidden layers of the regressors of divide and contrast, 4096 in the paper.
REGRESSORS = {"mnist": 128, "cifar": 512, "imagenet": 4096}
# What else the papers have for these images, by dotted name. Rates end at 1e-6 after
# SimCLR and what is built on it, at a thousandth after SupCon.
_A = {"schedule.final": 1e-6 / 0.5}
_B = {"schedule.per_epoch": True, "method.joint": False, **_A}  # of GH's comparisons
_PLAIN_HEAD = {"head.norm": "none"}  # MoCo v2, SupCon: dense, ReLU, dense
_SIMSIAM_FULL = {
    "head.width": 2048,
    "head.dim": 2048,
    "head.predictor_width": 512,
    "schedule.warmup": "0 epochs",
    "schedule.per_epoch": True,
}
_CIFAR_VIEWS = {"augment.recipe": "simsiam_cifar"}
_SUP_CON = {"head.width": 2048, "schedule.final": 1e-3, **_PLAIN_HEAD}
_MOCO = {"schedule.final": 1e-6 / 0.06, **_PLAIN_HEAD}
_SLOW = {"method.momentum": 0.996}
_BYOL = {"head.width": 4096, "head.dim": 256, "augment.recipe": "byol"}
_MOCLR_LARGE = {"method.temperature": 0.1, **_BYOL, **_SLOW}
_MOCO_LARGE = {
    "method.queue": 65536,
    "method.momentum": 0.999,
    "augment.recipe": "moco_v2",
    **_PLAIN_HEAD,
}
_SIMSIAM_LARGE = {"head.layers": 3, "augment.recipe": "moco_v2", **_SIMSIAM_FULL}
_BOOST_LARGE = {
    "augment.boost_layers": 2,
    "augment.boost_lowest": 0.0,
    "augment.boost_random": True,
}
_SDCLR_LARGE = {"method.prune": 0.3, "method.temperature": 0.3, **_A}
DETAILS = {
    "cifar": {
        **dict.fromkeys(("simclr", "ts", "bcl", "bcl_d", "sdclr"), _A),
        "focal": _B,
        "gh": {"schedule.middle_at": "50%", "schedule.middle": 0.3 / 0.5, **_B},
        **dict.fromkeys(("moco", "rwsam_moco"), _MOCO),
        **dict.fromkeys(("simsiam", "rwsam"), {**_SIMSIAM_FULL, **_CIFAR_VIEWS}),
        "byol": {
            "head.width": 2048,
            "head.dim": 256,
            "head.predictor_width": 2048,
            **_A,
        },
        **dict.fromkeys(("moclr", "dnc"), {**_SLOW, **_A}),
        "sup_con": {**_SUP_CON, **_CIFAR_VIEWS},
        "rotation": {
            "model": {"name": "resnet32"},
            "schedule": {"name": "warmup_multistep", "warmup": "5 epochs"},
        },
    },
    "imagenet": {
        "simclr": _A,
        "focal": _B,
        "ts": {"method.temperature_period": "400 epochs", **_A},
        "bcl": {**_BOOST_LARGE, **_A},
        "bcl_d": {**_BOOST_LARGE, **_SDCLR_LARGE},
        "sdclr": _SDCLR_LARGE,
        "gh": {
            "method.harmony_start": "80%",
            "method.harmony_ramp": "30 epochs",
            "method.harmony_every": "20 epochs",
            "method.harmony_floor": 100.0,
            "schedule.middle_at": "80%",
            "schedule.middle": 0.1 / 0.5,
            **_B,
        },
        **dict.fromkeys(("moco", "rwsam_moco"), _MOCO_LARGE),
        **dict.fromkeys(("simsiam", "rwsam"), _SIMSIAM_LARGE),
        "byol": {"head.predictor_width": 4096, **_BYOL},
        **dict.fromkeys(("moclr", "dnc"), _MOCLR_LARGE),
        "sup_con": _SUP_CON,
    },
}
# Radius of rwSAM, where it is not that of the released code for CIFAR.
RADII = {"imagenet": 2.0}
# Of the distillation: base rate, and epochs of base, experts and distillation.
DISTILLED = {
    "mnist": (0.1, ("80 epochs", "80 epochs", "40 epochs")),
    "cifar": (0.1, ("800 epochs", "800 epochs", "400 epochs")),
    "imagenet": (5.6, ("200 epochs", "600 epochs", "200 epochs")),
}


def images_of(data: str) -> str:
    """The key of these tables for a data set: mnist1d, cifar100 and the like."""
    return data if data == "imagenet" else data.rstrip("01d")


def training_of(images: str, method: str) -> tuple[int, float, float, int]:
    """Batch, rate, weight decay and epochs of a method."""
    return RECIPES[images].get(method, RECIPES[images][""])
