"""The documentation: `make docs` builds it, without a network and without a warning."""

import os.path
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import ltjax  # noqa: E402

project = "ltjax"
version = release = ltjax.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "components",
    "measured",
]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "alphabetical"
autodoc_typehints = "none"  # the docstrings say shapes, which types do not
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"ltjax {version}"
html_static_path = ["_static"]
html_show_sourcelink = False
html_copy_source = False


def _name_files_elsewhere(app, docname: str, source: list[str]) -> None:
    """Links to files of the repository that are no pages become their paths."""
    folder = (pathlib.Path(app.srcdir) / docname).parent

    def named(link: re.Match) -> str:
        path = os.path.relpath(folder / link[1], ROOT)
        return link[0] if path.startswith("docs") else f"`{path}`"

    source[0] = re.sub(r"\[[^\]]+\]\((\.\./[^)#]+)\)", named, source[0])


def _is_elsewhere(app, what, name: str, found, skip: bool, options) -> bool:
    """Whether a member is documented elsewhere.

    What scikit-learn adds is, by scikit-learn; fields of named tuples are, among the
    attributes of their class.
    """
    told = getattr(found, "__doc__", None) or ""
    of_sklearn = re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    return skip or bool(of_sklearn) or told.startswith("Alias for field number")


def setup(app) -> None:
    """Sphinx calls it."""
    app.connect("autodoc-skip-member", _is_elsewhere)
    app.connect("source-read", _name_files_elsewhere)
