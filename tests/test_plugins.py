"""A loss from outside, by CONTRIBUTING's recipe: a plugin that commands honour."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.cli import main

PLUGIN = '''
import dataclasses

import jax

from ltjax.losses import softmax_cross_entropy
from ltjax.losses.component import loss_component
from ltjax.methods.registry import LOSSES
from ltjax.options import option


@dataclasses.dataclass(frozen=True)
class PolyOptions:
    epsilon: float = option(1.0, "weight of 1 - p_y", above=-1, sweep=True)


def poly(logits, labels, *, epsilon=1.0):
    """Leng et al., "PolyLoss", ICLR 2022: cross-entropy + epsilon (1 - p_y)."""
    loss = softmax_cross_entropy(logits, labels)
    return loss + epsilon * (1 - jax.numpy.exp(-loss))


LOSSES["poly"] = loss_component("poly loss (Leng 2022)", poly, PolyOptions)
'''


@pytest.fixture(scope="module")
def ltjax(tmp_path_factory):
    """`ltjax(*arguments) -> CompletedProcess` where the plugin can be imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "their_losses.py").write_text(PLUGIN)

    def go(*arguments):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]),
            "JAX_PLATFORMS": "cpu",
        }
        return subprocess.run(
            [sys.executable, "-m", "ltjax", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
        )

    return go


@pytest.fixture(scope="module")
def workdir(ltjax, tiny_config, tmp_path_factory):
    """A run trained with the plugin's loss, in a process of its own."""
    place = tmp_path_factory.mktemp("poly")
    done = ltjax(
        *("train", f"--config={tiny_config}", "--workdir", place, "--no-tensorboard"),
        "--config.plugins=their_losses",
        "--config.loss.name=poly",
        "--config.loss.epsilon=2",
        "--config.total=6 steps",
    )
    assert done.returncode == 0, done.stderr
    return place


def test_a_run_with_a_plugins_loss_is_trained_and_says_so(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["plugins"] == ["their_losses"]
    assert config["loss"] == {"name": "poly", "epsilon": 2.0}
    (facts,) = json.loads((workdir / "run.json").read_text())["replicas"]
    assert facts["hyper"]["loss.epsilon"] == 2.0


def test_its_first_loss_is_the_definition(workdir):
    first = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    # At the start p_y is about 1/K: CE + 2 (1 - p_y) lies near log 10 + 1.8.
    assert first["train/loss"] == pytest.approx(np.log(10) + 1.8, abs=0.8)
    logits = jnp.log(jnp.array([[0.7, 0.3]]))
    scope: dict = {}
    exec(PLUGIN.partition("LOSSES[")[0], scope)
    value = scope["poly"](logits, jnp.array([1]), epsilon=2.0)
    assert value[0] == pytest.approx(-np.log(0.3) + 2 * 0.7, rel=1e-6)


def test_eval_and_report_find_the_plugin_by_themselves(ltjax, workdir, tmp_path):
    done = ltjax("eval", workdir)
    assert done.returncode == 0, done.stderr
    assert "eval/test/balanced_accuracy" in done.stdout
    done = ltjax("report", workdir, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss.name=poly", "config.loss.name is 'poly', unknown"),
        ("plugins=no_such_module", "config.plugins has 'no_such_module'"),
    ],
)
def test_without_the_plugin_the_name_is_unknown(
    change, message, tiny_config, tmp_path, capsys
):
    words = ["train", f"--config={tiny_config}", "--workdir", str(tmp_path / "w")]
    assert main([*words, f"--config.{change}"]) == 2  # in this process, which has none
    assert message in capsys.readouterr().err
