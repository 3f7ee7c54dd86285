"""Configs: an `ml_collections.ConfigDict` in, a checked, typed, frozen record out.

A config file (`configs/*.py`) starts from `default_config()` and changes what its
experiment needs. `validate` refuses anything this module does not name, lists every
fault at once, and touches no device. Library functions never see a ConfigDict.

Durations are one string with its unit, "200 epochs", "3000 steps", "512000 examples" or
"80%" (of the run), so that exactly one unit is given and any can be overridden on the
command line.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping

import ml_collections


class ConfigError(ValueError):
    """A config that cannot run; its message lists every fault found."""

    def __init__(self, faults: Iterable[str] | str):
        # ml_collections raises errors of a config file again, by type and message.
        if isinstance(faults, str):
            self.faults = [faults]
            super().__init__(faults)
            return
        self.faults = list(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"invalid config, {len(self.faults)} fault(s):{lines}")


# The scalars that live in the train state, so that replicas may differ in them and one
# compiled program serves a whole grid: name in `hyper` -> place in the config.
HYPER = {
    "lr": ("optimizer", "lr"),
    "weight_decay": ("optimizer", "weight_decay"),
    "tau": ("loss", "tau"),
    "tau_late": ("loss", "tau_late"),
    "gamma": ("loss", "gamma"),
    "max_margin": ("loss", "max_margin"),
    "scale": ("loss", "scale"),
    "posthoc_tau": ("loss", "posthoc_tau"),
    "power": ("weights", "power"),
    "rho": ("gradient", "rho"),
    "rho_head": ("gradient", "rho_head"),
    "rho_tail": ("gradient", "rho_tail"),
    "focal_gamma": ("gradient", "focal_gamma"),
    "focal_lambda": ("gradient", "focal_lambda"),
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples come from and which of them are kept."""

    name: str = "mnist1d"
    data_dir: str = ""  # "" = the environment variable LTJAX_DATA_DIR
    train_split: str = "train"
    test_split: str = "test"
    train_list: str = ""  # list files of "path label" lines (image folders)
    test_list: str = ""
    val_split: str = ""  # evaluated as "val" beside the test split; "" = none
    val_list: str = ""
    holdout: float = 0.0  # share of each training class set aside as "val"
    options: Mapping = dataclasses.field(default_factory=dict)  # of load_source
    profile: str = "exp"  # exp | step | pareto | balanced | counts | none
    imbalance_factor: float = 100.0
    max_count: int = 0  # examples of the largest class; 0 = as many as there are
    counts: tuple[int, ...] = ()  # with profile="counts"
    subset_seed: int = 0
    augment: str = "none"
    augment_options: Mapping = dataclasses.field(default_factory=dict)  # size, jitter
    feed: str = "resident"  # resident | streaming
    workers: int = 0  # processes of the streaming feed; 0 = threads only


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Backbone and head."""

    name: str = "conv1d"
    head: str = "auto"  # auto = what the loss asks for
    head_options: Mapping = dataclasses.field(default_factory=dict)  # of the head
    class_scale: str = "none"  # none | ones | inverse_norm: a learnable scale (LWS)
    class_scale_power: float = 0.5  # inverse_norm: starts at 1 / norm^power
    norm: str = ""  # "" = the network's own choice
    dtype: str = "float32"  # of the computation; parameters stay float32
    kwargs: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Per-example loss and its hyper-parameters (unused ones are ignored)."""

    name: str = "ce"
    tau: float = 1.0
    gamma: float = 0.0
    max_margin: float = 0.5
    scale: float = 30.0
    tau_late: float = 1.0  # tla_adrw: tau of the last phase
    class_balance: str = "none"  # dot_regression
    mixup: float = 0.0  # Beta(mixup, mixup); 0 = off
    posthoc_tau: float = 0.0  # logit adjustment at prediction; 0 = off
    kappa_low: float = 0.5  # cvs: range of the calibration factors
    kappa_high: float = 2.0
    kappa_warmup: str = "10 epochs"  # cvs: they are fitted, but not used yet


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
    """Class weights in the loss, from step `start` on (DRW: start = "80%")."""

    name: str = "none"  # none | class_balanced | inverse_power | batch
    beta: float = 0.9999
    power: float = 1.0
    normalize: str = "examples"  # examples | weights
    start: str = "0 steps"


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Which examples a batch holds, from step `start` on (DRS: start = "80%")."""

    name: str = "instance"
    power: float = 1.0
    beta: float = 0.9999
    remainder: str = "drop"  # drop | pad
    start: str = "0 steps"


@dataclasses.dataclass(frozen=True)
class GradientConfig:
    """How the gradient is taken: plain, or one of the sharpness-aware rules."""

    name: str = "plain"
    rho: float = 0.05
    rho_head: float = 0.05
    rho_tail: float = 0.1
    eta: int = 20  # a class with fewer training examples is "tail"
    tail_scale: float = 1.0
    group_normalize: str = "batch"  # batch | group_mean
    focal_gamma: float = 3.0
    focal_lambda: float = 0.5
    switch: str = "70%"  # sse_sam: end of the first stage
    late: str = "0 steps"  # plain gradient before this step
    rho_late: float = -1.0  # rho from `rho_switch` on; -1 = unchanged
    rho_switch: str = "80%"
    asam: str = "none"  # none | weights_only | all
    asam_eta: float = 0.0
    perturb: str = "all"  # all | norm | head
    stats: str = "first"  # first | every | none
    scope: str = "global"  # global | shard | a number of examples
    compaction: bool = False  # imbsam, sse_sam: tail term on its own rows only
    blocks: int = 1  # compaction: devices that share the batch
    density_weights: str = ""  # rwsam: .npy file with one weight per training example
    cc_ratio: float = 0.5  # cc_sam: r
    cc_nu: float = 0.0  # 0 = calibrated on the first batch
    cc_max_rho: float = 0.0  # bound of cc_sam's radii; 0 = none


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, learning-rate schedule and what is trained."""

    name: str = "sgd"  # sgd | adamw
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 2e-4
    decay: str = "all"  # all | kernels (leaves of rank > 1) | not_head_bias
    clip_norm: float = 0.0  # 0 = off
    accumulate: int = 1  # micro-batches per step
    schedule: str = "constant"  # constant | warmup_multistep | cosine
    warmup: str = "0 steps"
    milestones: tuple[int, ...] = (160, 180)  # epochs
    factors: tuple[float, ...] = (1e-2, 1e-4)
    per_epoch: bool = False  # cosine: hold the rate within an epoch
    train: str = "all"  # all, or modules: head, "head,backbone/stage4_*"
    bn_mode: str = "frozen"  # of a backbone of which nothing trains: | update_stats
    lr_factors: Mapping = dataclasses.field(default_factory=dict)  # {"backbone": 0.1}


@dataclasses.dataclass(frozen=True)
class ReplicaConfig:
    """Runs trained side by side in one program: seeds x a grid over `hyper`."""

    seeds: tuple[int, ...] = (0,)
    grid: Mapping = dataclasses.field(default_factory=dict)
    layout: str = "auto"  # vmap | unroll | devices; auto = unroll a few on CPU


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on; see the sections for the rest."""

    method: str = "supervised"
    label: str = ""  # the name in tables; "" = made from loss and gradient
    seed: int = 0  # added to every replica's seed
    batch_size: int = 128
    total: str = "3000 steps"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    weights: WeightsConfig = WeightsConfig()
    sampler: SamplerConfig = SamplerConfig()
    gradient: GradientConfig = GradientConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    replicas: ReplicaConfig = ReplicaConfig()
    ema_decay: float = 0.0  # 0 = off
    evaluate_ema: bool = False
    init_from: str = ""  # a run's workdir whose parameters start this one
    init_skip: tuple[str, ...] = ()  # top-level modules that start fresh all the same
    cache_features: bool = True  # frozen backbone, no augmentation: compute them once
    fsdp: int = 1
    steps_per_call: int = 1  # > 1 only pays on accelerators
    log_every: str = "100 steps"
    eval_every: str = "100%"
    eval_batch_size: int = 500
    collapse: bool = False  # at each evaluation, NC1-NC4 of the training set
    bound: bool = False  # and the generalization bound's quantities
    checkpoint_every: str = "25%"
    keep_latest: int = 3
    keep_every: str = "0 steps"  # keep those at multiples of this for good; 0 = off
    keep_best: bool = False  # by balanced accuracy on the val (else the test) split
    watchdog_minutes: float = 30.0
    many: int = 100
    few: int = 20


def default_config() -> ml_collections.ConfigDict:
    """The defaults of `TrainConfig` as a locked ConfigDict to start a config from."""

    def plain(value):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in _fields(value)}
        return dict(value) if isinstance(value, Mapping) else value

    config = ml_collections.ConfigDict(plain(TrainConfig()))
    return config.lock()


def parse_arg(arg: str, **defaults):
    """Typed arguments of a config file: "loss=ldam,imf=100,smoke" over `defaults`.

    Args:
        arg: comma-separated name=value; a bare name means True.
        **defaults: every allowed name with its default, whose type the value takes.

    Returns:
        An `ml_collections.ConfigDict` with the values.

    Raises:
        ConfigError: for unknown names and values of the wrong type, all at once.

    Example:
        >>> args = parse_arg("imf=50,smoke", loss="ce", imf=100.0, smoke=False)
        >>> args.loss, args.imf, args.smoke
        ('ce', 50.0, True)
    """
    values, faults = dict(defaults), []
    for item in filter(None, (part.strip() for part in (arg or "").split(","))):
        name, _, text = item.partition("=")
        if name not in defaults:
            faults.append(
                f"config argument {name!r} is unknown{nearest(name, defaults)}"
            )
            continue
        kind = type(defaults[name])
        try:
            values[name] = _parse_bool(text) if kind is bool else kind(text)
        except ValueError:
            faults.append(
                f"config argument {name} is {text!r}, expected {kind.__name__}"
            )
    if faults:
        raise ConfigError(faults)
    return ml_collections.ConfigDict(values)


def _parse_bool(text: str) -> bool:
    table = {"": True, "1": True, "true": True, "0": False, "false": False}
    if text.lower() not in table:
        raise ValueError(text)
    return table[text.lower()]


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint: the nearest valid name if one is near, else all of them."""
    choices = sorted(map(str, choices))
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}? (valid: {', '.join(choices)})"
    return f"; valid: {', '.join(choices)}"


_DURATION = re.compile(
    r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(%|steps?|epochs?|examples?)\s*"
)


def duration_steps(
    text: str, *, steps_per_epoch: int, batch_size: int, total_steps: int | None = None
) -> int:
    """A duration such as "5 epochs" in steps, at least 1 unless it is 0.

    Args:
        text: number and unit: steps, epochs, examples or % (of `total_steps`).
        steps_per_epoch: steps.
        batch_size: examples per step.
        total_steps: what 100% means; None where a percentage makes no sense.

    Returns:
        Steps.

    Raises:
        ValueError: if `text` is no duration.

    Example:
        >>> duration_steps("5 epochs", steps_per_epoch=84, batch_size=128)
        420
    """
    match = _DURATION.fullmatch(text)
    number = _number(match[1]) if match else None
    if match is None or number is None or (match[2] == "%" and total_steps is None):
        percent = "" if total_steps is None else " or '80%'"
        raise ValueError(
            f"{text!r} is no duration, expected a number and a unit such as"
            f" '200 epochs', '3000 steps', '512000 examples'{percent}"
        )
    unit = match[2].rstrip("s")
    per_unit = {
        "step": 1.0,
        "epoch": float(steps_per_epoch),
        "example": 1.0 / batch_size,
        "%": (total_steps or 0) / 100,
    }[unit]
    # 1e-9: 0.55 * 200 is 110.00000000000001 in floats.
    steps = math.ceil(number * per_unit - 1e-9)
    return max(steps, 1) if number > 0 else 0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fields(value):
    return dataclasses.fields(value)


def _type_name(kind) -> str:
    if typing.get_origin(kind) is tuple:
        return f"a tuple of {typing.get_args(kind)[0].__name__}"
    return {Mapping: "a dict"}.get(kind, getattr(kind, "__name__", str(kind)))


def _coerce(kind, value):
    """`value` as `kind`, or ValueError; ints pass as floats, nothing else converts."""
    if typing.get_origin(kind) is tuple:
        (item, *_) = typing.get_args(kind)
        if isinstance(value, (list, tuple)):
            return tuple(_coerce(item, v) for v in value)
        return (_coerce(item, value),)
    if kind is Mapping:
        if isinstance(value, (Mapping, ml_collections.ConfigDict)):
            items = dict(value).items()
            return types.MappingProxyType({str(k): v for k, v in items})
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, kind):
        return value
    raise ValueError(value)


def _build(
    cls, values: Mapping | ml_collections.ConfigDict, prefix: str, faults: list[str]
):
    hints = typing.get_type_hints(cls)
    chosen = {}
    for name, value in dict(values).items():
        path = f"{prefix}{name}"
        if name not in hints:
            faults.append(f"config.{path} is unknown{nearest(name, hints)}")
            continue
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if isinstance(value, (Mapping, ml_collections.ConfigDict)):
                chosen[name] = _build(kind, value, f"{path}.", faults)
            else:
                faults.append(f"config.{path} is {value!r}, expected a section")
            continue
        try:
            chosen[name] = _coerce(kind, value)
        except ValueError:
            faults.append(f"config.{path} is {value!r}, expected {_type_name(kind)}")
    return cls(**chosen)


def typed(config: Mapping | ml_collections.ConfigDict) -> tuple[TrainConfig, list[str]]:
    """The typed record of `config` and the faults of names and types in it."""
    faults: list[str] = []
    return _build(TrainConfig, config, "", faults), faults


def to_dict(config: TrainConfig) -> dict:
    """Plain nested dict (JSON-ready) of a typed config; `typed` reads it back."""

    def plain(value) -> typing.Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in _fields(value)}
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(config)
