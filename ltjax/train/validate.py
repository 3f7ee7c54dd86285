"""Checks a config against everything that can be built, before a device is touched."""

import math
from collections.abc import Mapping

from ltjax.data import augment
from ltjax.data.source import find_dataset
from ltjax.losses.dot_regression import CLASS_BALANCE
from ltjax.methods.gradients import RULES
from ltjax.methods.supervised import LOSSES, WEIGHTS
from ltjax.models.heads import HEADS, make_head
from ltjax.models.norms import NORMS
from ltjax.models.registry import MODELS, build_model
from ltjax.train.config import (
    HYPER,
    ConfigError,
    TrainConfig,
    duration_steps,
    nearest,
    typed,
)
from ltjax.train.optim import DECAY, OPTIMIZERS, SCHEDULES

SAMPLERS = {
    "instance": "every example once per epoch",
    "class_balanced": "classes uniformly",
    "square_root": "classes by the square root of their counts",
    "class_power": "classes by a power of their counts",
    "class_aware": "classes in turn, four examples at a visit",
    "progressive": "from instance to class-balanced over the run",
    "effective_number": "examples by 1 / E_n (DRS when deferred)",
}
_BELOW_ONE = math.nextafter(1.0, 0.0)
MODULES = ("backbone", "head", "class_scale")
METHODS = {
    "supervised": "any loss x head x class weights x sampler x gradient rule",
}


def validate(config) -> TrainConfig:
    """A checked, typed, frozen `TrainConfig` from a ConfigDict or dict.

    Args:
        config: as made by `default_config()` or a config file's `get_config`.

    Returns:
        The typed record.

    Raises:
        ConfigError: listing every fault, what was expected and the nearest valid name.
    """
    record, faults = typed(config)
    # A section that could not be typed holds defaults, which cannot add false faults.
    for check in (_names, _ranges, _durations, _combinations):
        faults += check(record)
    if faults:
        raise ConfigError(faults)
    return record


def _names(c: TrainConfig) -> list[str]:
    table = {
        "method": (c.method, METHODS),
        "data.profile": (
            c.data.profile,
            ("exp", "step", "pareto", "balanced", "counts", "none"),
        ),
        "data.augment": (c.data.augment, augment.PIPELINES),
        "data.feed": (c.data.feed, ("resident", "streaming")),
        "model.name": (c.model.name, MODELS),
        "model.head": (c.model.head, ("auto", *HEADS)),
        "model.norm": (c.model.norm, ("", *NORMS)),
        "model.dtype": (c.model.dtype, ("float32", "bfloat16")),
        "model.class_scale": (
            c.model.class_scale,
            ("none", "ones", "inverse_norm"),
        ),
        "loss.name": (c.loss.name, LOSSES),
        "loss.class_balance": (c.loss.class_balance, CLASS_BALANCE),
        "weights.name": (c.weights.name, WEIGHTS),
        "weights.normalize": (c.weights.normalize, ("examples", "weights")),
        "sampler.name": (c.sampler.name, SAMPLERS),
        "sampler.remainder": (c.sampler.remainder, ("drop", "pad")),
        "gradient.name": (c.gradient.name, RULES),
        "gradient.group_normalize": (
            c.gradient.group_normalize,
            ("batch", "group_mean"),
        ),
        "gradient.asam": (c.gradient.asam, ("none", "weights_only", "all")),
        "gradient.perturb": (c.gradient.perturb, ("all", "norm", "head")),
        "gradient.stats": (c.gradient.stats, ("first", "every", "none")),
        "optimizer.name": (c.optimizer.name, OPTIMIZERS),
        "optimizer.schedule": (c.optimizer.schedule, SCHEDULES),
        "optimizer.decay": (c.optimizer.decay, DECAY),
        "optimizer.bn_mode": (c.optimizer.bn_mode, ("frozen", "update_stats")),
        "replicas.layout": (
            c.replicas.layout,
            ("auto", "vmap", "unroll", "devices"),
        ),
    }
    faults = [
        f"config.{path} is {value!r}, unknown{nearest(value, valid)}"
        for path, (value, valid) in table.items()
        if value not in valid
    ]
    try:
        find_dataset(c.data.name)
    except ValueError as error:
        faults.append(f"config.data.name: {error}")
    for name in c.replicas.grid:
        if name not in HYPER:
            faults.append(
                f"config.replicas.grid has {name!r}, unknown{nearest(name, HYPER)}"
            )
    trained = [] if c.optimizer.train == "all" else c.optimizer.train.split(",")
    for field, paths in (("train", trained), ("lr_factors", c.optimizer.lr_factors)):
        for path in paths:
            if path.split("/")[0] not in MODULES:
                faults.append(
                    f"config.optimizer.{field} names {path!r}, expected"
                    f" {'all or ' if field == 'train' else ''}modules such as"
                    f" {', '.join(MODULES)} or backbone/stage4_*"
                )
    if not any(fault.startswith("config.model") for fault in faults):
        faults += _modules(c)
    if c.data.augment in augment.PIPELINES:
        try:
            statistics = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
            augment.build(c.data.augment, **{**statistics, **c.data.augment_options})
        except TypeError as error:
            faults.append(f"config.data.augment_options: {error}")
    return faults


def _modules(c: TrainConfig) -> list[str]:
    """Faults of backbone and head options; builds modules only."""
    faults = []
    try:  # its messages name the option
        build_model(
            c.model.name, num_classes=2, norm=c.model.norm or None, **c.model.kwargs
        )
    except (ValueError, TypeError) as error:
        faults.append(f"config.model.kwargs: {error}")
    head = head_name(c)
    if head in HEADS:
        try:
            make_head(head, num_classes=2, **head_options(head, c.model.head_options))
        except (ValueError, TypeError) as error:
            faults.append(f"config.model.head_options: {error}")
    return faults


def head_name(c: TrainConfig) -> str:
    """The head of a config: its own choice, or what the loss is meant for."""
    if c.model.head == "auto" and c.loss.name in LOSSES:
        return LOSSES[c.loss.name].head
    return c.model.head


def head_options(head: str, chosen: Mapping) -> dict:
    """Options of `make_head` from a config: a fixed frame is an ETF by default."""
    return {**({"frame": "etf"} if head == "etf" else {}), **chosen}


def _ranges(c: TrainConfig) -> list[str]:
    inf = math.inf
    table = [
        ("batch_size", c.batch_size, 1, inf),
        ("eval_batch_size", c.eval_batch_size, 1, inf),
        ("steps_per_call", c.steps_per_call, 1, inf),
        ("fsdp", c.fsdp, 1, inf),
        ("keep_latest", c.keep_latest, 1, inf),
        ("ema_decay", c.ema_decay, 0, _BELOW_ONE),
        ("few", c.few, 0, c.many + 1),
        ("data.imbalance_factor", c.data.imbalance_factor, 1, inf),
        ("data.max_count", c.data.max_count, 0, inf),
        ("data.workers", c.data.workers, 0, 64),
        ("data.holdout", c.data.holdout, 0, _BELOW_ONE),
        ("model.class_scale_power", c.model.class_scale_power, 0, inf),
        ("loss.tau", c.loss.tau, 0, inf),
        ("loss.tau_late", c.loss.tau_late, 0, inf),
        ("loss.gamma", c.loss.gamma, 0, inf),
        ("loss.max_margin", c.loss.max_margin, 0, inf),
        ("loss.scale", c.loss.scale, 1e-12, inf),
        ("loss.mixup", c.loss.mixup, 0, inf),
        ("loss.posthoc_tau", c.loss.posthoc_tau, 0, inf),
        ("loss.kappa_low", c.loss.kappa_low, 1e-12, inf),
        ("loss.kappa_high", c.loss.kappa_high, 1e-12, inf),
        ("weights.beta", c.weights.beta, 0, _BELOW_ONE),
        ("weights.power", c.weights.power, 0, inf),
        ("sampler.beta", c.sampler.beta, 0, _BELOW_ONE),
        ("optimizer.lr", c.optimizer.lr, 0, inf),
        ("optimizer.momentum", c.optimizer.momentum, 0, _BELOW_ONE),
        ("optimizer.weight_decay", c.optimizer.weight_decay, 0, inf),
        ("optimizer.clip_norm", c.optimizer.clip_norm, 0, inf),
        ("optimizer.accumulate", c.optimizer.accumulate, 1, inf),
        ("gradient.rho", c.gradient.rho, 0, inf),
        ("gradient.rho_head", c.gradient.rho_head, 0, inf),
        ("gradient.rho_tail", c.gradient.rho_tail, 0, inf),
        ("gradient.tail_scale", c.gradient.tail_scale, 0, inf),
        ("gradient.cc_ratio", c.gradient.cc_ratio, 0, 1),
        ("gradient.cc_nu", c.gradient.cc_nu, 0, inf),
        ("gradient.cc_max_rho", c.gradient.cc_max_rho, 0, inf),
    ]
    faults = []
    for path, value, low, high in table:
        if not low <= value <= high:  # also refuses NaN
            bound = f"in [{low}, 1)" if high == _BELOW_ONE else f"in [{low}, {high:g}]"
            bound = f"at least {low}" if high == inf else bound
            faults.append(f"config.{path} is {value}, expected {bound}")
    limits = {path: (low, high) for path, _, low, high in table}
    for name, values in c.replicas.grid.items():
        path = ".".join(HYPER.get(name, ()))
        low, high = limits.get(path, (-inf, inf))
        for value in values if isinstance(values, (tuple, list)) else ():
            if isinstance(value, (int, float)) and not low <= value <= high:
                bound = f"at least {low}" if high == inf else f"in [{low}, {high:g}]"
                faults.append(
                    f"config.replicas.grid[{name!r}] holds {value}, expected {bound}"
                    f" (config.{path})"
                )
    for path, factor in c.optimizer.lr_factors.items():
        if not isinstance(factor, (int, float)) or not 0 <= factor < inf:
            faults.append(
                f"config.optimizer.lr_factors[{path!r}] is {factor!r}, expected a"
                " number >= 0"
            )
    if not c.replicas.seeds:
        faults.append("config.replicas.seeds is empty, expected at least one seed")
    if len(c.optimizer.milestones) != len(c.optimizer.factors):
        faults.append(
            f"config.optimizer has {len(c.optimizer.milestones)} milestones but"
            f" {len(c.optimizer.factors)} factors"
        )
    return faults


def _durations(c: TrainConfig) -> list[str]:
    of_run = {
        "weights.start": c.weights.start,
        "loss.kappa_warmup": c.loss.kappa_warmup,
        "sampler.start": c.sampler.start,
        "gradient.switch": c.gradient.switch,
        "gradient.late": c.gradient.late,
        "gradient.rho_switch": c.gradient.rho_switch,
        "optimizer.warmup": c.optimizer.warmup,
        "log_every": c.log_every,
        "eval_every": c.eval_every,
        "checkpoint_every": c.checkpoint_every,
        "keep_every": c.keep_every,
    }
    faults = []
    for path, text, total in [
        ("total", c.total, None),
        *((p, t, 100) for p, t in of_run.items()),
    ]:
        try:
            steps = duration_steps(
                text, steps_per_epoch=1, batch_size=1, total_steps=total
            )
        except ValueError as error:
            faults.append(f"config.{path}: {error}")
            continue
        if steps == 0 and path in ("total", "log_every"):
            faults.append(f"config.{path} is {text!r}, expected a positive duration")
    return faults


def _combinations(c: TrainConfig) -> list[str]:
    faults = []
    loss = LOSSES.get(c.loss.name)
    if loss is not None and c.model.head not in ("auto", loss.head, *loss.heads):
        faults.append(
            f"config.model.head is {c.model.head!r}, but loss {c.loss.name!r} needs"
            f" {' or '.join(map(repr, (loss.head, *loss.heads)))} (or 'auto')"
        )
    faults += _frozen_parts(c)
    if c.data.holdout and (c.data.val_split or c.data.val_list):
        faults.append(
            "config.data.holdout and config.data.val_split (or val_list) both make a"
            " split 'val', expected one of them"
        )
    if c.bound and loss is not None and loss.affine is None:
        stated = [name for name, entry in LOSSES.items() if entry.affine is not None]
        faults.append(
            f"config.bound is set, but loss {c.loss.name!r} is not of the form"
            f" w_y CE(scale z + shift, y), expected one of {', '.join(stated)}"
        )
    if c.bound and (c.weights.name == "batch" or c.gradient.name == "cc_sam"):
        faults.append(
            "config.bound needs class weights that do not change with the batch, and"
            " one loss: expected another weights.name than 'batch' and another"
            " gradient.name than 'cc_sam'"
        )
    if c.loss.class_balance in ("batch", "sqrt_batch") and (
        c.optimizer.accumulate > 1 or c.gradient.scope != "global"
    ):
        faults.append(
            f"config.loss.class_balance is {c.loss.class_balance!r}, which counts the"
            " classes of the whole batch, expected optimizer.accumulate = 1 and"
            " gradient.scope = 'global' (or weights.name = 'batch')"
        )
    if loss is not None and loss.memory is not None and c.loss.mixup:
        faults.append(
            f"config.loss.mixup is {c.loss.mixup}, but loss {c.loss.name!r} is"
            " calibrated on predictions of single examples, expected 0"
        )
    if c.loss.kappa_low > c.loss.kappa_high:
        faults.append(
            f"config.loss.kappa_low is {c.loss.kappa_low} and kappa_high"
            f" {c.loss.kappa_high}, expected low <= high"
        )
    if c.loss.class_balance != "none" and c.loss.name != "dot_regression":
        faults.append(
            f"config.loss.class_balance is {c.loss.class_balance!r}, but only loss"
            " 'dot_regression' has it, expected 'none' (see weights.name = 'batch')"
        )
    if c.data.profile == "counts" and not c.data.counts:
        faults.append("config.data.counts is empty, but data.profile is 'counts'")
    if c.data.counts and c.data.profile != "counts":
        faults.append(
            f"config.data.counts is set, but data.profile is {c.data.profile!r},"
            " expected 'counts'"
        )
    if c.evaluate_ema and not c.ema_decay:
        faults.append("config.evaluate_ema is set, but ema_decay is 0")
    if c.sampler.remainder == "pad" and c.sampler.name != "instance":
        faults.append(
            f"config.sampler.remainder is 'pad', but sampler {c.sampler.name!r} draws"
            " full batches; only 'instance' has a remainder"
        )
    if c.gradient.name == "cc_sam" and c.loss.name != "ce":
        faults.append(
            f"config.loss.name is {c.loss.name!r}, but gradient 'cc_sam' perturbs the"
            " classifier of plain cross-entropy, expected 'ce'"
        )
    if c.gradient.compaction and c.gradient.name not in ("imbsam", "sse_sam"):
        faults.append(
            f"config.gradient.compaction is set, but {c.gradient.name!r} has no tail"
            " term, expected 'imbsam' or 'sse_sam'"
        )
    if c.gradient.compaction and (c.loss.mixup or c.optimizer.accumulate > 1):
        faults.append(
            "config.gradient.compaction needs each row to be one example of the batch,"
            " expected loss.mixup = 0 and optimizer.accumulate = 1"
        )
    if c.gradient.blocks < 1 or c.batch_size % c.gradient.blocks:
        faults.append(
            f"config.gradient.blocks is {c.gradient.blocks}, expected a divisor of"
            f" batch_size = {c.batch_size}"
        )
    if c.gradient.name == "rwsam" and not c.gradient.density_weights:
        faults.append(
            "config.gradient.density_weights is empty, but rwsam needs a .npy file with"
            " one weight per training example (ltjax.sharpness.density_weights)"
        )
    if c.loss.mixup and c.sampler.remainder == "pad":
        faults.append("config.loss.mixup would mix examples with padding; use 'drop'")
    if c.optimizer.accumulate > 1 and c.gradient.scope != "global":
        faults.append(
            "config.optimizer.accumulate > 1 splits the batch by itself, expected"
            f" gradient.scope = 'global', not {c.gradient.scope!r}"
        )
    if c.loss.mixup and (c.optimizer.accumulate > 1 or c.gradient.scope != "global"):
        faults.append(
            "config.loss.mixup mixes examples of the whole batch, expected"
            " optimizer.accumulate = 1 and gradient.scope = 'global'"
        )
    if c.batch_size % c.optimizer.accumulate:
        faults.append(
            f"config.batch_size is {c.batch_size}, expected a multiple of"
            f" optimizer.accumulate = {c.optimizer.accumulate}"
        )
    scope = c.gradient.scope
    if scope not in ("global", "shard"):
        if not scope.isdigit() or int(scope) < 1 or c.batch_size % int(scope):
            faults.append(
                f"config.gradient.scope is {scope!r}, expected 'global', 'shard' or a"
                f" divisor of batch_size = {c.batch_size}"
            )
    return faults


def _frozen_parts(c: TrainConfig) -> list[str]:
    """Faults of runs that train only some modules of another run's network."""
    faults = []
    scaled, train = c.model.class_scale != "none", c.optimizer.train
    if train != "all" and not c.init_from:
        faults.append(
            f"config.init_from is empty, but optimizer.train is {train!r}: all else"
            " would stay as it was drawn; expected the workdir of a finished run"
        )
    if c.init_skip and not c.init_from:
        faults.append("config.init_skip is set, but init_from is empty")
    if "class_scale" in train.split(",") and not scaled:
        faults.append(
            "config.optimizer.train names 'class_scale', but model.class_scale is"
            " 'none', expected 'ones' or 'inverse_norm'"
        )
    head = head_name(c)
    if c.model.class_scale == "inverse_norm" and head != "linear":
        faults.append(
            "config.model.class_scale is 'inverse_norm', which starts from the norms of"
            f" a linear head's columns, but the head is {head!r}, expected 'linear'"
        )
    return faults
