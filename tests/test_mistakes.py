"""Plausible mistakes on the command line, and what is said of each.

Every message names the argument, what came, what was expected, and the nearest valid
thing where there is one; the exit code is 2. Those of `predict` and `export`, which
need a trained network, are in tests/serving/test_messages.py.
"""

import re

import numpy as np
import pytest

# Words of the commands: CONFIG is the tests' config file, AT a folder that holds the
# files below.
TRAIN = "train --workdir AT/run --config CONFIG"
SWEEP = "sweep --workdir AT/run --config CONFIG"
NAMED = "train --workdir AT/run --config"
TABLE = "train --workdir AT/run --data AT/table.csv --label kind"
DATA = "train --workdir AT/run --data"

MISTAKES = [
    # Commands, and what can be named.
    ("", "the following arguments are required: COMMAND"),
    ("trian", "COMMAND: invalid choice: 'trian'; did you mean 'train'?"),
    ("swep", "COMMAND: invalid choice: 'swep'; did you mean 'sweep'?"),
    ("list loses", "list: 'loses' is unknown; did you mean 'losses'?"),
    ("list losses --all", "unknown argument '--all'; valid: --help"),
    ("options loses", "options: 'loses' is unknown; did you mean 'losses'?"),
    ("options losses ladm", "losses 'ladm' is unknown; did you mean 'ldam'?"),
    ("configs mnist", "ltjax configs: unknown argument 'mnist'; valid: --help"),
    ("prepare cifra10", "'cifra10' (did you mean 'cifar10'?), expected one of"),
    # Arguments of train.
    ("train", "the following arguments are required: --workdir"),
    ("train --workdir AT/run", "--config FILE (or --data PATH) is missing"),
    (f"{NAMED}", "--config FILE (or --data PATH) is missing"),
    ("train --workdir AT/run --confg x", "'--confg'; did you mean '--config'?"),
    (f"{TRAIN} --lr=0.1", "'--lr'; did you mean '--config.optimizer.lr'?"),
    (f"{TRAIN} --batch-size 3", "'--batch-size'; did you mean '--config.batch_size'?"),
    (f"{TRAIN} --tau 1", "'--tau'; did you mean '--config."),
    (f"{TRAIN} stray", "unknown argument 'stray', expected --config.FIELD=VALUE"),
    (f"{TRAIN} --process-id=one", "--process-id: invalid int value: 'one'"),
    (f"{TRAIN} --epochs 3", "--epochs goes with --data PATH; with --config FILE it is"),
    (f"{TRAIN} --data x", "expected one of --data and --config, not both"),
    (f"{TRAIN} --tracker wanbd", "--tracker is 'wanbd', unknown; did you mean 'wandb'"),
    # Config files.
    (f"{NAMED} mnist1d", "no config file 'mnist1d'; did you mean 'mnist1d_lt'?"),
    (f"{NAMED} AT/mine.py", "'AT/mine.py'; did you mean 'AT/mines.py'?"),
    (f"{NAMED} mnist1d_lt:metod=la", "argument 'metod' is unknown; did you mean 'met"),
    (f"{NAMED} mnist1d_lt:imf=lots", "config argument imf is 'lots', expected float"),
    (f"{NAMED} mnist1d_lt:method=ladm", "method is 'ladm', unknown; did you mean 'ld"),
    # Options.
    (f"{TRAIN} --config.optimizer.lrr=1", "config.optimizer.lrr is unknown; did you m"),
    (f"{TRAIN} --config.optimiser.lr=1", "config.optimiser is unknown; did you mean"),
    (f"{TRAIN} --config.lr=1", "config.lr is unknown; did you mean 'config.optimizer."),
    (f"{TRAIN} --config.loss.tau=1", "config.loss.tau is unknown to 'ce'; it is an o"),
    (f"{TRAIN} --config.batch_size=many", "config.batch_size is 'many', expected int"),
    (f"{TRAIN} --config.batch_size=-3", "config.batch_size is -3, expected a number >"),
    (f"{TRAIN} --config.loss.name=ladm", "is 'ladm', unknown; did you mean 'ldam'?"),
    (f"{TRAIN} --config.model.name=resnet_18", "unknown; did you mean 'resnet18'?"),
    (f"{TRAIN} --config.gradient.name=sams", "'sams', unknown; did you mean 'sam'?"),
    (f"{TRAIN} --config.schedule.name=cosin", "unknown; did you mean 'cosine'?"),
    (f"{TRAIN} --config.sampler.name=balanced", "did you mean 'class_balanced'?"),
    (f"{TRAIN} --config.data.name=cifar-10", "'cifar-10', unknown; did you mean 'cif"),
    (f"{TRAIN} --config.data.profile=expo", "'expo', unknown; did you mean 'exp'?"),
    (f"{TRAIN} --config.data.imbalance_factor=0.5", "0.5, expected a number >= 1"),
    (f"{TRAIN} --config.model.name=conv2d", "conv2d' does not fit the data: Conv2D:"),
    (f"{TRAIN} --config.total=200", "config.total is '200', which is not a duration"),
    (f"{TRAIN} --config.judged=top1", "config.judged is 'top1', unknown; valid: bal"),
    (f"{TRAIN} --config.plugins=no_such", "config.plugins has 'no_such': ModuleNot"),
    (f"{TRAIN} --config.stages=3", "config.stages is (3,), expected a tuple of"),
    (f"{TRAIN} --config.evaluators={{'acc':{{}}}}", "'acc', unknown; did you mean"),
    (f"{TRAIN} --config.replicas.seeds=-1", "seeds is (-1,), expected a number >= 0"),
    (f"{TRAIN} --config.replicas.grid=x", "is 'x', expected a dict such as"),
    (f"{TRAIN} --config.init_from=AT/empty", "init_from: AT/empty holds no checkpoint"),
    # Places.
    ("train --workdir AT/table.csv/run --config CONFIG", "AT/table.csv/run cannot be"),
    ("eval AT/empty", "AT/empty does not hold a run (no config.json)"),
    ("eval AT/empty --jsn", "unknown argument '--jsn'; did you mean '--json'?"),
    ("eval AT/empty --out x", "--out is given, which goes with another classifier; ex"),
    ("eval AT/empty --posthoc-tau much", "--posthoc-tau: invalid float value: 'much'"),
    ("eval AT/empty --checkpoint latest", "is 'latest', expected 'last', 'best' or"),
    ("report AT/nowhere", "AT/nowhere is not a folder, expected the workdir of a run"),
    ("report AT/empty", "AT/empty is empty, expected the workdir of a run or a folder"),
    ("spectrum AT/empty", "AT/empty does not hold a run (no config.json)"),
    # Your own data.
    (
        f"{DATA} AT/tabel.csv",
        "there is no file AT/tabel.csv; did you mean 'table.csv'?",
    ),
    (f"{DATA} AT/empty", "AT/empty has 0 folder(s), expected one per class, at least"),
    (f"{DATA} tdfs:mnist", "data is 'tdfs:mnist'; did you mean 'tfds:mnist'?"),
    (f"{DATA} cifar10", "data is 'cifar10', which is a benchmark; expected --config"),
    (f"{DATA} AT/short.npz", "inputs have shape (6, 3), but there are 5 labels, exp"),
    (f"{DATA} AT/table.csv --label knd", "label column 'knd'; did you mean 'kind'?"),
    (f"{TABLE} --metod la", "unknown argument '--metod'; did you mean '--method'?"),
    (f"{TABLE} --method ladm", "method is 'ladm', unknown; did you mean 'ldam'?"),
    (f"{TABLE} --model resnet19", "model is 'resnet19', unknown; did you mean 'resnet"),
    (f"{TABLE} --epochs many", "--epochs: invalid int value: 'many'"),
    (f"{TABLE} --epochs -1", "epochs is -1, expected"),
    # Sweeps.
    (SWEEP, "the following arguments are required: --grid"),
    ("sweep --config CONFIG --grid seed=0", "arguments are required: --workdir"),
    ("sweep --workdir AT/run --grid seed=0", "--config FILE (or --data PATH) is miss"),
    (f"{SWEEP} --grid loss.tau", "--grid is 'loss.tau', expected KEY=VALUE,VALUE"),
    (f"{SWEEP} --grid seed=0,0", "--grid is 'seed=0,0', which has the value 0 twice"),
    (f"{SWEEP} --grid seed=0,-1", "--grid is 'seed=0,-1', expected whole numbers"),
    (f"{SWEEP} --grid loss.tau=1", "--grid loss.tau: config.loss.tau is unknown to"),
    (f"{SWEEP} --grid optimizer.lrr=1", "--grid optimizer.lrr: config.optimizer.lrr"),
    (f"{SWEEP} --grid optimizer.lr=1,-1", "--grid optimizer.lr: config.replicas.grid"),
    (f"{SWEEP} --grid batch_size=8,0", "--grid batch_size: config.batch_size is 0, e"),
    (f"{SWEEP} --grid batch_size=8,x", "--grid batch_size: --config.batch_size is 'x'"),
    (f"{SWEEP} --grid seed=0 --replicas 0", "--replicas is 0, expected at least 1"),
    (
        "sweep --workdir AT/run --config mnist1d_lt --grid metod=la",
        "--grid metod: 'metod' is no option of the config and no argument here; did you"
        " mean 'method'?",
    ),
    (
        "sweep --workdir AT/run --config mnist1d_lt --grid loss=la",
        "--grid loss: 'loss' is no option of the config and no argument here; did you"
        " mean 'loss.name'?",
    ),
    (
        "sweep --workdir AT/run --config mnist1d_lt --grid method=la,ladm",
        "--grid method: method is 'ladm', unknown; did you mean 'ldam'?",
    ),
    (
        f"{TABLE.replace('train', 'sweep')} --grid epochs=many",
        "--grid epochs: 'many' is not a whole number",
    ),
    (
        f"{TABLE.replace('train', 'sweep')} --grid metod=la",
        "--grid metod: 'metod' is no option of the config and no argument here; did you"
        " mean 'method'? (arguments: method, model, image_size, epochs;",
    ),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder AT."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty").mkdir()
    (folder / "mines.py").write_text("")
    (folder / "table.csv").write_text("a,b,kind\n" + "1,2,x\n3,4,y\n" * 6)
    inputs, labels = np.zeros((6, 3), np.float32), np.zeros(5, np.int32)
    np.savez(folder / "short.npz", inputs=inputs, labels=labels)
    return folder


def test_the_table_has_sixty_mistakes_each_of_its_own():
    commands = [command for command, _ in MISTAKES]
    assert len(commands) >= 60 and len(set(commands)) == len(commands)


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_every_mistake_is_named(ltjax, tiny_config, place, devices, command, message):
    def filled(text):
        words = {"AT": str(place), "CONFIG": str(tiny_config)}
        return re.sub(r"\bAT\b|CONFIG", lambda match: words[match[0]], text)

    with devices(1):
        code, out, err = ltjax(*filled(command).split())
    assert code == 2
    assert out == ""
    assert err.startswith("error: ") and "Traceback" not in err
    assert filled(message) in err
    left = {p.name for p in place.iterdir()}
    assert left <= {"empty", "mines.py", "table.csv", "short.npz", "run"}
