"""Configs: sections that follow their names, and records that survive JSON."""

import json

import pytest

from ltjax.options import ConfigError, defaults
from ltjax.train.check import check
from ltjax.train.config import default_config, parse_arg, to_dict
from ltjax.train.sections import AUTO, SECTIONS, kinds


def test_choosing_a_name_resets_the_section():
    config = default_config()
    config.loss.name = "vs"
    assert config.loss.to_dict() == {"name": "vs", "gamma": 0.2, "tau": 1.2}
    config.loss.gamma = 0.9
    config.loss.name = "cdt"  # its gamma is another one
    assert config.loss.to_dict() == {"name": "cdt", "gamma": 0.2}
    config.loss.gamma = 0.9
    config.loss.name = "cdt"  # the same again changes nothing
    assert config.loss.gamma == 0.9


def test_changed_options_that_all_components_share_are_carried():
    config = default_config()
    config.optimizer.lr, config.optimizer.nesterov = 0.7, True
    config.optimizer.name = "lars"
    assert config.optimizer.lr == 0.7 and "nesterov" not in config.optimizer
    # Not changed, so its own default: LARS decays kernels only.
    assert config.optimizer.decay == "kernels"
    config.optimizer.name = "adamw"  # whose class is the shared one itself
    assert config.optimizer.lr == 0.7 and "trust" not in config.optimizer
    config.schedule.warmup = "3 epochs"
    config.schedule.name = "cosine"
    assert config.schedule.warmup == "3 epochs" and config.schedule.per_epoch is False
    config.schedule.name = "constant"
    assert config.schedule.warmup == "3 epochs" and "per_epoch" not in config.schedule
    config.sampler.name = "class_power"
    config.sampler.start, config.sampler.power = "80%", 0.5
    config.sampler.name = "square_root"
    assert config.sampler.to_dict() == {"name": "square_root", "start": "80%"}
    config.head.class_scale = "ones"  # while the name is still "auto"
    config.head.name = "linear"
    assert config.head.class_scale == "ones"
    config.data.imbalance_factor, config.data.train_per_class = 10.0, 9
    config.data.name = "cifar10"
    assert config.data.imbalance_factor == 10.0
    assert "train_per_class" not in config.data


def test_choose_makes_a_section_anew():
    config = default_config()
    config.gradient.choose("sse_sam", rho_head=0.3, eta=7)
    assert (config.gradient.rho_head, config.gradient.eta) == (0.3, 7)
    config.gradient.late = "5 steps"
    config.gradient.choose("imbsam")
    known = SECTIONS["gradient"].defaults("imbsam")
    assert config.gradient.to_dict() == {"name": "imbsam", **known}
    config.loss.choose("ldam", max_margin=0.3)
    assert config.loss.max_margin == 0.3 and config.loss.scale == 30.0


def test_options_keep_their_type_and_the_top_level_is_closed():
    config = default_config()
    with pytest.raises((KeyError, AttributeError)):
        config.batchsize = 3
    with pytest.raises(TypeError):
        config.batch_size = "many"
    with pytest.raises(TypeError):
        config.optimizer.lr = "fast"


def test_an_option_of_another_component_is_left_to_check():
    config = default_config()
    config.loss.tau = 2.0
    with pytest.raises(ConfigError, match="config.loss.tau is unknown to 'ce'"):
        check(config)


def test_a_grid_has_keys_with_dots():
    config = default_config()
    config.replicas.grid = {"optimizer.lr": (0.1, 0.2)}
    assert dict(check(config).replicas.grid) == {"optimizer.lr": (0.1, 0.2)}


@pytest.mark.parametrize("path", [p for p in SECTIONS if p != "data"])
def test_every_component_can_be_chosen_with_its_defaults(path):
    section = SECTIONS[path]
    for name, component in section.table.items():
        config = default_config()
        config[path].name = name
        assert config[path].to_dict() == {"name": name, **defaults(component)}
    assert section.default == AUTO or section.default in section.table


def test_every_kind_has_components_with_a_line_each():
    for kind, table in kinds().items():
        for name, component in table.items():
            assert component.about and "\n" not in component.about, (kind, name)


def test_a_record_is_read_like_the_config_and_survives_its_json(tiny):
    config = tiny({"loss.name": "vs", "optimizer.lr_factors": {"backbone/norm1": 0.5}})
    assert config.loss.tau == 1.2 and config.loss.name == "vs"
    assert config.total == "24 steps" and config.data.feed == "resident"
    with pytest.raises(AttributeError, match="max_margin"):
        config.loss.max_margin  # noqa: B018
    with pytest.raises(AttributeError, match="totl"):
        config.totl  # noqa: B018
    stored = json.loads(json.dumps(to_dict(config)))
    assert stored["loss"] == {"name": "vs", "gamma": 0.2, "tau": 1.2}
    assert stored["model"]["hidden"] == [16]
    assert check(stored) == config


def test_arguments_take_the_type_of_their_default():
    args = parse_arg(
        "a=3,b=0.5,c=x,d=false,e", a=1, b=1.0, c="", d=True, e=False, f="kept"
    )
    assert args.to_dict() == {
        "a": 3,
        "b": 0.5,
        "c": "x",
        "d": False,
        "e": True,
        "f": "kept",
    }
    with pytest.raises(ConfigError) as refused:
        parse_arg("a=1.5,d=maybe,bb=2", a=1, b=1.0, d=True)
    assert refused.value.faults == [
        "config argument a is '1.5', expected int",
        "config argument d is 'maybe', expected bool",
        "config argument 'bb' is unknown; did you mean 'b'? (valid: a, b, d)",
    ]
