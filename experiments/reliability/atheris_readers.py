"""Readers under a fuzzer that is guided by coverage (pip install 'ltjax[fuzz]').

python -m experiments.reliability.atheris_readers npz -max_total_time=60

The first argument is a kind of file (`files.KINDS`), the others are libFuzzer's, which
starts from the undamaged file. What is asked is what `files.check` asks; an answer that
breaks it ends the run, and crash-* in the working folder holds the input.
"""

import importlib
import inspect
import logging
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from experiments.reliability.fuzz import files

# Whose branches guide it. The rest of the package only makes it slow.
READERS = (
    "ltjax._archives",
    "ltjax._seal",
    "ltjax.data.arrays",
    "ltjax.data.class_folders",
    "ltjax.data.class_labels",
    "ltjax.data.folders",
    "ltjax.data.image_sizes",
    "ltjax.data.label_sets",
    "ltjax.data.readers",
    "ltjax.data.signature",
    "ltjax.data.table_files",
    "ltjax.data.tables",
    "ltjax.options",
    "ltjax.report.cells",
    "ltjax.report.reading",
    "ltjax.report.runs",
    "ltjax.report.tables",
    "ltjax.serving.files",
    "ltjax.serving.loading",
    "ltjax.train.integrity",
    "ltjax.train.restore",
    "ltjax.train.workdir",
    # Parsers in Python that they stand on.
    "csv",
    "json.decoder",
    "json.scanner",
    "numpy.lib._format_impl",
    "zipfile",
)


def functions_of(name: str) -> Iterator[object]:
    """The functions and methods that a module defines."""
    module = importlib.import_module(name)
    classes = [one for one in vars(module).values() if inspect.isclass(one)]
    owners = [module, *(one for one in classes if one.__module__ == name)]
    for owner in owners:
        for one in map(inspect.unwrap, filter(callable, vars(owner).values())):
            if inspect.isfunction(one) and one.__module__ == name:
                yield one


def main(argv: list[str]) -> None:
    """Fuzzes the reader of one kind of file until it breaks or the time is over."""
    try:
        import atheris
    except ModuleNotFoundError as error:
        raise SystemExit(
            "atheris_readers needs atheris: pip install 'ltjax[fuzz]'"
        ) from error

    if len(argv) < 2 or argv[1] not in files.KINDS:
        raise SystemExit(f"{__doc__}\nkinds: {', '.join(files.KINDS)}")
    for name in READERS:
        for function in functions_of(name):
            atheris.instrument_func(function)
    logging.disable(logging.CRITICAL)
    kind, folder = files.KINDS[argv[1]], pathlib.Path(tempfile.mkdtemp())
    file = folder / "place" / kind.name
    file.parent.mkdir(parents=True)
    kind.write(file)
    whole = file.read_bytes()
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "whole").write_bytes(whole)

    def one_input(data: bytes) -> None:
        files.read_damaged(kind, file, data, whole)

    atheris.Setup([argv[0], *argv[2:], os.fspath(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
