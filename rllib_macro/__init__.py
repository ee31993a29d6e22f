"""The application: economies trained by Ray RLlib, experiments, plots and the command line.

Importing it checks that the folder `kernels` beside it is the one that Python finds: another package of that name is published.
"""
from pathlib import Path

import kernels

if Path(kernels.__file__ or "").resolve().parent.parent != Path(__file__).resolve().parent.parent:
    raise ImportError("another package named 'kernels' hides this project's folder; run from the repository root or uninstall it")
