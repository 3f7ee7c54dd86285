"""What a config cannot ask for: refused before a device is used, in one message."""

import re
import sys

import jax
import pytest

from ltjax.options import Component, ConfigError, NoOptions
from ltjax.train.check import check, load_plugins, swept
from ltjax.train.sections import OTHER_KINDS, SECTIONS

NAMES = [
    ({"method.name": "supervise"}, "'supervise', unknown; did you mean 'supervised'?"),
    ({"loss.name": "ldma"}, "config.loss.name is 'ldma', unknown; did you mean 'ldam'"),
    ({"model.name": "resnet_cifr"}, "did you mean 'resnet_cifar'?"),
    ({"data.name": "cifra10"}, "data.name is 'cifra10', unknown; did you mean 'cifar1"),
    ({"sampler.name": "class_balance"}, "did you mean 'class_balanced'?"),
    ({"gradient.name": "sse-sam"}, "did you mean 'sse_sam'?"),
    ({"schedule.name": "cosin"}, "did you mean 'cosine'?"),
    ({"weights.name": "batchwise"}, "weights.name is 'batchwise', unknown; did you"),
    ({"evaluators": {"bond": {}}}, "is 'bond', unknown; did you mean 'bound'?"),
]
VALUES = [
    ({"batch_size": 0}, "config.batch_size is 0, expected a number >= 1"),
    ({"optimizer.lr": -0.1}, "config.optimizer.lr is -0.1, expected a number >= 0"),
    ({"optimizer.lr": float("nan")}, "optimizer.lr is nan, expected a finite number"),
    ({"optimizer.momentum": 1.0}, "momentum is 1.0, expected a number >= 0 and < 1"),
    ({"data.holdout": 1.0}, "data.holdout is 1.0, expected a number >= 0 and < 1"),
    (
        {"weights.name": "class_balanced", "weights.beta": 1.5},
        "config.weights.beta is 1.5, expected a number >= 0 and < 1",
    ),
    ({"head.class_scale": "norm"}, "head.class_scale is 'norm', unknown; did you"),
    ({"optimizer.bn_mode": "eval"}, "optimizer.bn_mode is 'eval', unknown"),
    ({"head.name": "etf", "head.frame": "eft"}, "'eft', unknown; did you mean 'etf'"),
    (
        {"loss.name": "dot_regression", "loss.class_balance": "half"},
        "loss.class_balance is 'half', unknown",
    ),
    (
        {"total": "3000"},
        "total is '3000', which is not a duration, expected a number and",
    ),
    ({"total": "50%"}, "config.total: '50%' is not a duration"),
    ({"total": "0 steps"}, "config.total is '0 steps', expected more than 0"),
    ({"log_every": "0 steps"}, "config.log_every is '0 steps', expected more than 0"),
    (
        {"eval_every": "often"},
        "eval_every is 'often', which is not a duration",
    ),
    ({"plugins": ("no_such_module",)}, "plugins has 'no_such_module': ModuleNotFound"),
]
FOREIGN = [
    ({"model.hiden": (3,)}, "hiden is unknown to 'mlp'; did you mean 'hidden'?"),
    ({"loss.class_balance": "batch"}, "is unknown to 'ce'; it has no options"),
    (
        {"head.bais": False},
        "config.head.bais is unknown to 'linear'; valid: batch_norm",
    ),
    (
        {"augment.name": "cifar", "augment.size": 3},
        "config.augment.size is unknown to 'cifar'",
    ),
    ({"gradient.rho": 0.1}, "config.gradient.rho is unknown to 'plain'"),
    ({"data.options": {"a": 1}}, "config.data.options is unknown to 'mnist1d'"),
    ({"evaluators": {"collapse": {"k": 3}}}, "evaluators.collapse.k is unknown to"),
    ({"evaluators": {"collapse": 3}}, "collapse is 3, expected a dict of options"),
]
TOGETHER = [
    ({"replicas.seeds": ()}, "config.replicas: seeds is empty"),
    ({"seed": 2**31 - 1, "replicas.seeds": (0, 1)}, "reaches 2147483648, expected le"),
    ({"few": 9, "many": 3}, "few is 9 and many 3, expected few <= many + 1"),
    (
        {"schedule.name": "warmup_multistep", "schedule.factors": (0.1,)},
        "config.schedule: there are 2 milestones but 1 factors",
    ),
    (
        {"loss.name": "cvs", "loss.kappa_low": 3.0},
        "config.loss: kappa_low is 3.0 and kappa_high 2.0",
    ),
    ({"data.profile": "counts"}, "config.data.counts is empty"),
    ({"data.counts": (3, 2)}, "config.data.counts is set, but data.profile is 'exp'"),
    ({"data.holdout": 0.2, "data.val_split": "val"}, "both make a split 'val'"),
    ({"evaluate_ema": True}, "config.evaluate_ema is set, but ema_decay is 0"),
    ({"optimizer.accumulate": 3}, "16, expected a multiple of optimizer.accumulate"),
    (
        {"gradient.name": "rwsam", "gradient.density_column": "seen"},
        "density_column is 'seen', which config.columns_from does not name",
    ),
]
HEADS = [
    ({"head.name": "linear", "loss.name": "ldam"}, "but loss 'ldam' needs 'cosine'"),
    ({"head.name": "etf", "loss.name": "ldam"}, "but loss 'ldam' needs 'cosine'"),
    ({"head.name": "projection"}, "but loss 'ce' needs 'linear' or 'cosine' or 'etf'"),
    (
        {"head.class_scale": "inverse_norm", "head.name": "cosine"},
        "but the head is 'cosine', expected 'linear'",
    ),
]
SECOND_STAGES = [
    ({"optimizer.train": "head"}, "init_from is empty, but optimizer.train is 'head'"),
    ({"init_skip": ("head",)}, "init_skip is set, but init_from is empty"),
    (
        {"optimizer.train": "tail", "init_from": "x"},
        "optimizer.train names 'tail', expected all or modules such as backbone",
    ),
    (
        {"optimizer.train": "lora,head", "init_from": "x"},
        "optimizer.train names 'lora', expected all or modules such as backbone, head",
    ),
    (
        {"optimizer.train": "class_scale", "init_from": "x"},
        "names 'class_scale', but head.class_scale is 'none'",
    ),
    ({"optimizer.lr_factors": {"body": 0.1}}, "names 'body', expected modules"),
    ({"optimizer.lr_factors": {"head": -1.0}}, "['head'] is -1.0, expected a number"),
]
BOUND = {"evaluators": {"bound": {}}}
STATED = [
    (
        BOUND | {"loss.name": "ldam"},
        "has 'bound', but loss 'ldam' in method 'supervised' is not of",
    ),
    (BOUND | {"weights.name": "batch"}, "class weights that do not change with the b"),
    (BOUND | {"gradient.name": "cc_sam"}, "another gradient than 'cc_sam'"),
]
COMPACT = {"gradient.name": "imbsam", "gradient.compaction": True}
GROUPED = COMPACT | {"model.norm": "group"}
BALANCED = {"loss.name": "dot_regression", "loss.class_balance": "batch"}
SHARP = [
    (COMPACT, "compaction is set, but batch normalization couples the rows of mlp"),
    (GROUPED | {"head.batch_norm": True}, "couples the rows of linear"),
    (GROUPED | {"gradient.scope": "4"}, "compaction is set, but scope is '4'"),
    (GROUPED | {"method.mixup": 1.0}, "compaction needs each row to be one example"),
    (GROUPED | {"gradient.blocks": 3}, "blocks is 3, expected a divisor of batch_size"),
    (
        GROUPED | BALANCED | {"head.name": "linear"},
        "loss 'dot_regression' couples the rows of the batch",
    ),
    (BALANCED | {"optimizer.accumulate": 2}, "loss 'dot_regression' couples the rows"),
    (
        BALANCED | {"gradient.name": "sam", "gradient.scope": "4"},
        "loss 'dot_regression' couples the rows",
    ),
    (
        {"gradient.name": "cc_sam", "optimizer.accumulate": 2},
        "gradient 'cc_sam' couples the rows of the batch",
    ),
    (
        {"gradient.name": "sam", "gradient.scope": "5"},
        "scope is '5', expected 'global', 'shard' or a divisor of batch_size = 16",
    ),
    (
        {"gradient.name": "sam", "gradient.scope": "4", "optimizer.accumulate": 2},
        "optimizer.accumulate > 1 splits the batch by itself",
    ),
    (
        {"gradient.name": "cc_sam", "loss.name": "la"},
        "loss.name is 'la', but gradient 'cc_sam' perturbs the classifier of plain",
    ),
    (
        {"gradient.name": "cc_sam", "head.name": "cosine"},
        "head.name is 'cosine', but gradient 'cc_sam' perturbs a linear classifier",
    ),
]
UNREAD = [
    (
        {"method.name": "rolt", "loss.name": "la"},
        "config.loss.name is 'la', but method 'rolt' does not read it, expected 'ce'",
    ),
    (
        {"method.name": "rolt", "weights.name": "batch"},
        "weights.name is 'batch', but method 'rolt' does not read it, expected 'none'",
    ),
]
MIXED = [
    (
        {"loss.name": "cvs", "method.mixup": 1.0},
        "mixup is 1.0, but loss 'cvs' is calibrated",
    ),
    ({"method.mixup": 1.0, "sampler.remainder": "pad"}, "mix examples with padding"),
]
GRIDS = [
    ({"learning_rate": (0.1,)}, "has 'learning_rate', unknown; valid: "),
    ({"loss.tau": (0.1,)}, "has 'loss.tau', unknown; valid: method.posthoc_tau"),
    ({"optimizer.l": (0.1,)}, "unknown; did you mean 'optimizer.lr'?"),
    ({"optimizer.lr": (0.1, -0.2)}, "['optimizer.lr'] holds -0.2, expected a number >"),
    ({"optimizer.lr": (float("inf"),)}, "holds inf, expected a finite number"),
    ({"optimizer.lr": (0.1, "x")}, "['optimizer.lr'] holds 'x', expected float"),
    ({"optimizer.lr": ()}, "grid['optimizer.lr'] is empty, expected values"),
    # What changes the program or its shapes cannot differ between replicas.
    ({"optimizer.momentum": (0.8, 0.9)}, "has 'optimizer.momentum', unknown"),
]
ALL = [*NAMES, *VALUES, *FOREIGN, *TOGETHER, *HEADS, *SECOND_STAGES, *STATED, *SHARP]
ALL += [
    *UNREAD,
    *MIXED,
    *(({"replicas.grid": grid}, message) for grid, message in GRIDS),
]


@pytest.mark.parametrize(("changes", "message"), ALL)
def test_configs_that_cannot_run(tiny, changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        tiny(changes)
    assert len(refused.value.faults) == 1


def test_wrong_types_are_named():
    with pytest.raises(ConfigError) as refused:
        check(
            {
                "batch_size": 1.5,
                "total": 100,
                "ema_decay": "0.9",
                "evaluate_ema": 1,
                "schedule": {"name": "warmup_multistep", "milestones": "all"},
                "data": "mnist1d",
                "model": {"name": "mlp", "hidden": 3.5},
            }
        )
    assert sorted(refused.value.faults) == [
        "config.batch_size is 1.5, expected int",
        "config.data is 'mnist1d', expected a section",
        "config.ema_decay is '0.9', expected float",
        "config.evaluate_ema is 1, expected bool",
        "config.model.hidden is 3.5, expected a tuple of int",
        "config.schedule.milestones is 'all', expected a tuple of int",
        "config.total is 100, expected str",
    ]


def test_unknown_keys_name_the_nearest():
    with pytest.raises(ConfigError) as refused:
        check({"batchsize": 3, "optimizer": {"learning_rate": 0.1, "momentun": 1}})
    text = str(refused.value)
    assert "config.batchsize is unknown; did you mean 'batch_size'?" in text
    assert "config.optimizer.learning_rate is unknown to 'sgd'; valid: accumul" in text
    assert "optimizer.momentun is unknown to 'sgd'; did you mean 'momentum'?" in text


def test_all_faults_are_listed_at_once(tiny):
    with pytest.raises(ConfigError) as refused:
        tiny({"loss.name": "focl", "batch_size": -1, "total": "soon"})
    text = str(refused.value)
    assert text.startswith("invalid config, 3 fault(s):")
    for part in (
        "'focl'",
        "config.batch_size is -1",
        "'soon', which is not a duration",
    ):
        assert part in text


def test_no_device_is_touched(tiny, monkeypatch):
    def forbidden(*args):
        raise AssertionError("a device was asked for")

    monkeypatch.setattr(jax, "devices", forbidden)
    monkeypatch.setattr(jax, "device_put", forbidden)
    tiny()
    with pytest.raises(ConfigError):
        tiny({"loss.name": "none of them"})


@pytest.mark.parametrize(
    ("loss", "head"), [("ce", "linear"), ("ldam", "cosine"), ("dot_regression", "etf")]
)
def test_a_head_that_nobody_names_is_what_the_loss_is_meant_for(tiny, loss, head):
    assert tiny({"loss.name": loss}).head.name == head
    # Options that all heads share may be set without a name.
    changes = {"loss.name": loss, "head.class_scale": "ones"}
    assert tiny(changes).head.class_scale == "ones"


def test_every_swept_option_can_vary(tiny):
    config = tiny({"loss.name": "vs", "gradient.name": "sam"})
    assert swept(config) == {
        "loss.gamma": 0.2,
        "loss.tau": 1.2,
        "gradient.rho": 0.1,
        "method.posthoc_tau": 0.0,
        "optimizer.lr": 0.05,
        "optimizer.weight_decay": 2e-4,
    }
    grid = {name: (value, 0.5) for name, value in swept(config).items()}
    changes = {"loss.name": "vs", "gradient.name": "sam", "replicas.grid": grid}
    assert tiny(changes).replicas.grid.keys() == grid.keys()


def test_evaluators_are_read_with_their_options(tiny):
    assert dict(tiny().judges) == {}
    config = tiny({"evaluators": {"classification": {}, "collapse": {}}})
    assert list(config.judges) == ["classification", "collapse"]


PLUGIN = """
import dataclasses
from ltjax.losses.component import loss_component
from ltjax.losses import softmax_cross_entropy
from ltjax.methods.registry import LOSSES
from ltjax.options import option

@dataclasses.dataclass(frozen=True)
class Options:
    strength: float = option(2.0, "of it", low=1, sweep=True)

LOSSES["from_a_plugin"] = loss_component("a loss", softmax_cross_entropy, Options)
"""


def test_a_plugin_brings_a_component_with_its_options(tiny, tmp_path, monkeypatch):
    (tmp_path / "ltjax_test_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    changes = {"plugins": ("ltjax_test_plugin",), "loss.name": "from_a_plugin"}
    try:
        assert tiny(changes).loss.strength == 2.0
        with pytest.raises(ConfigError, match=r"strength is 0.5, expected .* >= 1"):
            tiny(changes | {"loss.strength": 0.5})
        assert "loss.strength" in swept(tiny(changes))
    finally:
        SECTIONS["loss"].table.pop("from_a_plugin", None)
        sys.modules.pop("ltjax_test_plugin", None)


def test_plugins_are_names():
    with pytest.raises(ConfigError, match="plugins is 3, expected names of modules"):
        load_plugins(3)


def test_combinations_that_a_component_refuses_are_faults(tiny, monkeypatch):
    def needs(options, config):
        return [] if config.total == "24 steps" else [f"only 24, not {config.total}"]

    picky = Component("picky", NoOptions, lambda options, setting: None, needs)
    for table in (SECTIONS["weights"].table, OTHER_KINDS["evaluators"]):
        monkeypatch.setitem(table, "picky", picky)
    for changes in ({"weights.name": "picky"}, {"evaluators": {"picky": {}}}):
        tiny(changes)
        with pytest.raises(ConfigError, match="only 24, not 30 steps"):
            tiny(changes | {"total": "30 steps"})


def test_streams_columns_and_views_that_a_method_needs(tiny, monkeypatch):
    from ltjax.methods.method import MethodFacts

    wanted = {"companions": True, "columns": ("candidates",), "views": ("strong",)}
    needy = Component(
        "needy", NoOptions, lambda o, s: None, facts=lambda o: MethodFacts(**wanted)
    )
    monkeypatch.setitem(SECTIONS["method"].table, "needy", needy)
    with pytest.raises(ConfigError) as refused:
        tiny({"method.name": "needy"})
    assert refused.value.faults == [
        "method 'needy' needs a second, unlabelled stream, but config.unlabelled.name"
        " is 'none'",
        "method 'needy' needs the column 'candidates', which neither data 'mnist1d' nor"
        " labels 'given' has",
        "method 'needy' needs the view 'strong', but config.augment.name 'none' makes"
        " inputs",
    ]
