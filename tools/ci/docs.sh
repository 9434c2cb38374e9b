#!/usr/bin/env bash
# Build the documentation site, which executes the tutorial. Every warning fails, such as a link without a target.
# usage: tools/ci/docs.sh .ci-venv/site
set -euo pipefail
uv pip install --quiet --editable ".[docs]"
# Otherwise the theme prints a note about its successor, which CONTRIBUTING.md mentions.
NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict --site-dir "$PWD/$1"
# The example of the first page, which trains for some seconds.
NOISYBENCH_SLOW=1 python -m pytest -q -n 0 tests/api/test_readme_example.py
echo "The site is built: $(find "$1" -name '*.html' | wc -l) pages."
