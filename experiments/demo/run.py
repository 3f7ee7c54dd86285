"""The demo: six long-tail methods on MNIST-1D-LT, three seeds each, and their report.

    python experiments/demo/run.py [--workdir runs/demo] [--smoke]

Trains with the configs and the loop of any other run. Started again, it resumes what
was interrupted and reports what is finished.
"""

import argparse
import logging
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

RUNS = (
    ("ce", "plain"),
    ("ldam_drw", "plain"),
    ("la", "plain"),
    ("la_cb", "plain"),
    ("la", "sam"),
    ("la", "sse_sam"),
)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default=str(ROOT / "runs" / "demo"))
    parser.add_argument("--smoke", action="store_true", help="a few steps of each")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    started = time.perf_counter()

    from configs.mnist1d_lt import get_config
    from ltjax.report import write_report
    from ltjax.train.build import build
    from ltjax.train.check import check
    from ltjax.train.loop import run

    workdir = pathlib.Path(args.workdir)
    workdirs = []
    for k, (method, gradient) in enumerate(RUNS, start=1):
        smoke = ",smoke" if args.smoke else ""
        config = get_config(f"method={method},gradient={gradient}{smoke}")
        built = build(check(config))
        if k == 1:
            info = built.info
            print(
                f"MNIST-1D-LT: {info.num_train} training examples,"
                f" {info.class_counts.tolist()} per class,"
                f" {info.num_test} balanced test examples;"
                f" {info.num_params} parameters, {info.total_steps} steps,"
                f" {len(info.replicas)} seeds side by side"
            )
        print(f"\n[{k}/{len(RUNS)}] {built.info.name}", flush=True)
        name = method if gradient == "plain" else f"{method}_{gradient}"
        workdirs.append(workdir / name)
        run(built, workdirs[-1])
    paths = write_report(workdirs, workdir / "report")
    print(f"\n{pathlib.Path(paths['table.md']).read_text()}")
    for name in ("report.html", "table.md", "table.csv"):
        print(f"{name:<12} {paths[name]}")
    figures = sum(str(p).endswith(".png") for p in paths.values())
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{figures} figures beside them; {minutes} min {seconds} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
