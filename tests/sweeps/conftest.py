"""Makers of configs, as the command line has them."""

import json

import pytest


@pytest.fixture(scope="session")
def maker(tiny_config):
    """`maker(**changes)(fixed)`: the tests' config with what a grid fixes."""
    from ltjax.config_file import load_config

    def outer(**changes):
        spec = f"{tiny_config}:{json.dumps(changes)}"

        def make(fixed):
            overrides = [f"--config.{key}={value}" for key, value in fixed.items()]
            return load_config(["--config", spec, *overrides], command="sweep")

        return make

    return outer
