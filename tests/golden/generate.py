"""Write frozen vectors again by running a reference.

    git clone REPOSITORY FOLDER
    python -m tests.golden.generate NAME FOLDER

The clone must be at the commit of the generator. For a library, FOLDER is left out.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.golden.vectors import save_golden


def main(name: str, folder: Path | None = None) -> None:
    """Run the generator of a name and write its vectors."""
    module: Any = importlib.import_module(f"tests.golden.generators.{name}")
    if folder:
        found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        if found.stdout.strip() != module.COMMIT:
            sys.exit(f"{folder} is at another commit; run: git -C {folder} checkout {module.COMMIT}")
    arrays = module.generate(folder.resolve() if folder else None)
    origin = {
        "reference": module.REFERENCE,
        "commit": module.COMMIT,
        "computed": module.COMPUTED,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("numpy", "torch")},
        },
    }
    save_golden(name, arrays, origin)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
