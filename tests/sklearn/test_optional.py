"""scikit-learn is an extra: the rest works without it, and its absence is explained."""

import subprocess
import sys


def test_without_scikit_learn_the_extra_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import ltjax.resampling, ltjax.classifiers\n"
        "try:\n"
        "    import ltjax.sklearn\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'ltjax[sklearn]'" in found.stdout
