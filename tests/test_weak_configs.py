"""The recipes of semi_lt, partial_lt and noisy_lt, and what they refuse."""

import pathlib

import pytest

from ltjax.config_file import load_config
from ltjax.options import ConfigError
from ltjax.train.stages import check_stages

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"


def asked(file, arguments):
    """The checked config of every stage."""
    config = load_config(["--config", f"{CONFIGS / file}.py:{arguments}"])
    return [stage.config for stage in check_stages(config)]


@pytest.mark.parametrize(
    ("arguments", "factor"), [("imf=10", 10), ("", 100), ("imf=10,imf_u=50", 50)]
)
def test_the_unlabelled_part_is_as_imbalanced_as_the_labelled_one(arguments, factor):
    (config,) = asked("semi_lt", arguments)
    assert config.unlabelled.options.imbalance_factor == factor


@pytest.mark.parametrize(
    ("file", "arguments", "message"),
    [
        ("semi_lt", "method=abc,base=remixmatch", "base is 'remixmatch', but method"),
        ("semi_lt", "method=cossl,base=mixmatch", "another: darp, dynamic_prior"),
        ("semi_lt", "method=supervised,base=mixmatch", "base is 'mixmatch', but"),
        ("semi_lt", "method=darp,base=darp", "base is 'darp', which makes no guesses"),
        ("semi_lt", "method=mixmatch,loss=la", "'la', but method 'mixmatch' does not"),
        ("semi_lt", "method=simpro,loss=ldam_drw", "'ldam', but method 'simpro' does"),
        ("noisy_lt", "method=mislas,loss=la", "method 'mislas' has its own"),
        (
            "noisy_lt",
            "method=cdr,pretrain=false",
            "pretrain is false: method is 'cdr'",
        ),
        ("noisy_lt", "method=rcal,tune=false", "tune is false: .* expected 'sel_cl'"),
        ("noisy_lt", "noise=grouped", "noise is 'grouped', unknown.*'group'"),
        ("noisy_lt", "method=rolt,loss=ce_drw", "weights.name is 'class_balanced'"),
    ],
)
def test_what_would_be_ignored_is_refused(file, arguments, message):
    with pytest.raises(ConfigError, match=message):
        asked(file, arguments)


def test_a_stage_without_labels_has_no_loss_of_labels():
    first, second = asked("noisy_lt", "method=rcal,loss=la")
    assert (first.loss.name, second.loss.name) == ("ce", "la")


SEMI = {
    # method -> lr, decaying leaves, mu, strong views, steps
    "fixmatch": (0.03, "all", 2, 1, 250_000),
    "fixmatch,recipe=google": (0.03, "kernels", 7, 1, 2**20),
    "darp": (0.002, "kernels", 1, 2, 250_000),
    "abc": (0.002, "kernels", 1, 2, 250_000),
    "cossl": (0.002, "kernels", 1, 2, 250_000),
    "remixmatch": (0.002, "kernels", 1, 2, 250_000),
    "daso": (0.03, "all", 2, 1, 250_000),
    "acr": (0.03, "kernels", 1, 2, 250_000),
    "crest_plus": (0.03, "kernels", 7, 1, 6 * 64 * 1024),
    "simpro": (0.17, "kernels", 8, 2, 43_000),
}


@pytest.mark.parametrize("method", SEMI)
def test_semi_supervised_recipes_of_cifar(method):
    (config,) = asked("semi_lt", f"data=cifar10,method={method}")
    optimizer = config.optimizer.options
    assert (
        optimizer.lr,
        optimizer.decay,
        config.unlabelled.options.ratio,
        config.augment_unlabelled.options.num_strong,
        int(config.total.removesuffix(" steps")),
    ) == SEMI[method]
    assert (config.model.name, config.batch_size) == ("wrn28_2", 64)
    sgd = config.optimizer.name == "sgd"
    assert optimizer.weight_decay == (5e-4 if sgd else 0.02)
    late = config.schedule.name == "partial_cosine" and config.schedule.options.level
    assert late == {"google": 7, "acr": 7, "simpro": 7, "crest_plus": 1}.get(
        method.rpartition("=")[2], False
    )


def test_darp_has_its_own_pool_on_fixmatch_only():
    (own,) = asked("semi_lt", "data=cifar10,method=darp")
    (mixed,) = asked("semi_lt", "data=cifar10,method=darp,base=mixmatch")
    (chosen,) = asked("semi_lt", "data=cifar10,method=fixmatch,recipe=darp")
    pools = [c.unlabelled.options.include_labelled for c in (own, mixed, chosen)]
    assert pools == [True, False, True]
    assert own.augment_unlabelled.options.recipe == "standard"
    assert own.model.options.norm_decay == 0.9


NOISY = {
    # method -> lr, weight decay, batch, epochs, milestones
    "supervised": (0.1, 2e-4, 128, 200, (160, 180)),
    "rolt": (0.1, 2e-4, 128, 200, (160, 180)),
    "rcal": (0.02, 5e-4, 128, 200, (120, 160)),
    "cdr": (0.01, 1e-3, 32, 200, (40, 80)),
    "har": (0.1, 1e-4, 128, 200, (53, 67, 80, 80 + 80, 80 + 100)),
    "coteaching": (0.001, 0.0, 128, 200, ()),
    "sel_cl": (0.1, 1e-4, 128, 250, ()),
}


@pytest.mark.parametrize("method", NOISY)
def test_noisy_label_recipes_of_cifar(method):
    stages = asked("noisy_lt", f"data=cifar10,method={method}")
    config = stages[-1] if method == "rcal" else stages[0]
    optimizer = config.optimizer.options
    assert (
        optimizer.lr,
        optimizer.weight_decay,
        config.batch_size,
        int(config.total.removesuffix(" epochs")),
        getattr(config.schedule.options, "milestones", ()),
    ) == NOISY[method]
    asked("noisy_lt", f"data=cifar10,method={method},smoke")


def test_mislas_has_the_smoothing_of_its_data():
    for data, head in (("cifar10", 0.3), ("cifar100", 0.4)):
        first, second = asked("noisy_lt", f"data={data},method=mislas")
        assert (first.total, first.label) == ("200 epochs", "CE")
        assert second.loss.options.head == head and second.label == "MiSLAS"


def test_moco_before_rcal_has_its_own_recipe():
    first, _ = asked("noisy_lt", "data=cifar10,method=rcal")
    options = first.method.options
    assert (options.queue, options.momentum, options.temperature) == (4096, 0.99, 0.1)
    assert (first.batch_size, first.schedule.name) == (512, "cosine")
    assert first.optimizer.options.lr == 0.06
    assert first.optimizer.options.weight_decay == 5e-4


def test_partial_label_recipe_of_cifar():
    (config,) = asked("partial_lt", "data=cifar100,method=corr,records,mixup=4")
    assert (config.model.name, config.model.options.stem) == ("resnet18", "small")
    assert config.schedule.options.per_epoch and config.schedule.options.final == 1e-3
    assert config.optimizer.options.lr == 0.01
    assert config.optimizer.options.weight_decay == 1e-3
    assert (config.batch_size, config.total) == (256, "800 epochs")
    assert config.method.options.warmup == "1 epochs"


@pytest.mark.parametrize(
    ("data", "epochs", "rates"),
    [
        ("cifar10", (100, 900), (0.1, 0.01, 0.6)),
        ("cifar100", (20, 820), (0.05, 0.01, 0.5)),
    ],
)
def test_solar_estimates_the_prior_first(data, epochs, rates):
    (config,) = asked("partial_lt", f"data={data},method=solar")
    options = config.method.options
    assert (options.estimate, config.total) == tuple(f"{n} epochs" for n in epochs)
    found = (options.estimate_rate, options.prior_rate, options.last_rate)
    assert found == rates
    assert asked("partial_lt", "method=solar")[0].method.options.estimate == "0 steps"
