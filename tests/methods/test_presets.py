"""Presets: named combinations of components, as the papers have them."""

import pytest

from ltjax.methods.presets import (
    GRADIENT_LABELS,
    PRESETS,
    apply_gradient,
    apply_preset,
)
from ltjax.methods.registry import GRADIENTS
from ltjax.options import ConfigError
from ltjax.train.config import default_config
from ltjax.train.stages import check_stages


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_config(name):
    config = default_config()
    apply_preset(config, name, late="80%")
    runs = check_stages(config)
    assert runs[0].config.label == PRESETS[name]["label"]
    assert len(runs) == len(PRESETS[name].get("stages", [0]))
    assert "<late>" not in str(config)


def test_every_gradient_rule_has_a_label():
    assert GRADIENT_LABELS.keys() == GRADIENTS.keys()


def test_deferred_methods_switch_when_they_are_told():
    config = default_config()
    apply_preset(config, "ldam_drw", late="160 epochs")
    assert (config.loss.name, config.weights.name) == ("ldam", "class_balanced")
    assert config.weights.start == "160 epochs" and config.weights.beta == 0.9999
    assert config.weights.normalize == "weights"
    config = default_config()
    apply_preset(config, "ldam_drs", late="160 epochs")
    assert config.sampler.start == "160 epochs" and config.weights.name == "none"


def test_second_stages_take_the_cosine_of_their_first():
    config = default_config()
    config.schedule.choose("cosine", per_epoch=True, warmup="5 epochs")
    config.init_from = "runs/first"  # takes the place of the first stage
    apply_preset(config, "crt", late="80%")
    assert not config.stages and config.label == "cRT"
    assert (config.schedule.name, config.schedule.per_epoch) == ("cosine", True)
    assert config.schedule.warmup == "0 steps"
    config = default_config()
    config.schedule.choose("warmup_multistep", warmup="5 epochs")
    apply_preset(config, "lws", late="80%")
    first, second = (stage.config for stage in check_stages(config))
    assert first.schedule.warmup == "5 epochs" and first.optimizer.train == "all"
    assert (second.schedule.name, second.schedule.warmup) == ("cosine", "0 steps")
    assert second.optimizer.train == "class_scale"
    assert second.head.class_scale == "ones" and second.init_skip == ("class_scale",)
    assert (second.init_from, second.label) == ("stage:first", "LWS")


@pytest.mark.parametrize(
    ("many", "smoothing", "share"), [(False, (0.3, 0), 0.5), (True, (0.4, 0.1), 0.2)]
)
def test_mislas_mixes_and_then_smooths_with_shifted_statistics(many, smoothing, share):
    config = default_config()
    apply_preset(config, "mislas", late="80%", many_classes=many)
    first, second = (stage.config for stage in check_stages(config))
    assert first.method.options.mixup == 1.0 and first.loss.name == "ce"
    assert second.method.options.mixup == 0.0
    assert second.loss.name == "label_aware_smoothing"
    assert (second.loss.options.head, second.loss.options.tail) == smoothing
    optimizer = second.optimizer.options
    assert optimizer.train == "head,class_scale" and optimizer.bn_mode == "update_stats"
    assert dict(optimizer.lr_factors) == {"head": share}
    assert second.head.options.class_scale == "ones"
    assert second.sampler.name == "class_balanced" and second.total == "10 epochs"
    # A finished run takes the place of the first stage.
    config = default_config()
    config.init_from = "runs/first"
    apply_preset(config, "mislas", late="80%", many_classes=many)
    assert not config.stages and config.loss.head == smoothing[0]


def test_a_gradient_is_chosen_with_its_changes_and_named():
    config = default_config()
    apply_preset(config, "la", late="80%")
    apply_gradient(config, "sse_sam", eta=7)
    assert config.label == "LA + SSE-SAM"
    assert (config.gradient.eta, config.gradient.rho_tail) == (7, 0.1)
    apply_gradient(config, "plain")
    assert config.gradient.to_dict() == {"name": "plain"}
    config = default_config()
    apply_gradient(config, "sam")
    assert config.label == "SAM"


def test_unknown_names_are_refused_with_the_nearest():
    config = default_config()
    with pytest.raises(ConfigError, match="'ldam_dwr', unknown; did you mean 'ldam_dr"):
        apply_preset(config, "ldam_dwr", late="80%")
    with pytest.raises(ConfigError, match="'sse-sam', unknown; did you mean 'sse_sam'"):
        apply_gradient(config, "sse-sam")
