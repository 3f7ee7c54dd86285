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
        ("semi_lt", "method=mixmatch,loss=la", "'la', but method 'mixmatch' does not"),
        ("semi_lt", "method=simpro,loss=ldam_drw", "'ldam', but method 'simpro' does"),
        ("noisy_lt", "method=rolt,loss=ce_drw", "weights.name is 'class_balanced'"),
    ],
)
def test_what_the_method_does_not_read_is_refused(file, arguments, message):
    with pytest.raises(ConfigError, match=message):
        asked(file, arguments)


def test_a_stage_without_labels_has_no_loss_of_labels():
    first, second = asked("noisy_lt", "method=rcal,loss=la")
    assert (first.loss.name, second.loss.name) == ("ce", "la")
