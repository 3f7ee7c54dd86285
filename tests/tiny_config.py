"""The config of the tests' runs: a second of training, on all that an engine does.

A file for `ltjax train`, whose argument is a JSON object of changes by dotted name, so
that a test can ask for the same run in this process and in another one.
"""

import json

from ltjax.train.config import default_config

# Counts 40, 30, 23, 18, 14, 11, 8, 6, 5, 4: 159 examples, 9 steps of 16 an epoch.
BASE = {
    "data.train_per_class": 40,
    "data.test_per_class": 10,
    "data.max_count": 40,
    "data.imbalance_factor": 10.0,
    "many": 20,
    "few": 8,
    "model.name": "mlp",
    "model.hidden": (16,),
    "model.norm": "batch",
    "batch_size": 16,
    "total": "24 steps",
    "optimizer.lr": 0.05,
    "log_every": "6 steps",
    "eval_every": "12 steps",
    "eval_batch_size": 48,
    "checkpoint_every": "8 steps",
}


def get_config(arg=""):
    config, asked = default_config(), json.loads(arg or "{}")
    changes = BASE | asked
    # Names come first: they decide which options there are.
    for path in sorted(changes, key=lambda path: not path.endswith(".name")):
        *sections, name = path.split(".")
        value, place = changes[path], config
        for section in sections:
            place = place[section]
        if path in asked or name in place:  # another data set has no signals
            place[name] = tuple(value) if isinstance(value, list) else value
    return config
