"""The code of the installed sources, with which tables compare the code of runs."""

from __future__ import annotations

import functools
import hashlib
import json

from noisybench.config.registry import KINDS, list_entries
from noisybench.config.resolve import resolve
from noisybench.config.source_code import SourceTree
from noisybench.errors import UserError
from noisybench.records.codes import Code, as_code
from noisybench.records.schema import RunRecord


class InstalledCode:
    """The code that runs would have with the installed sources, read once.

    Example:
        >>> len(InstalledCode().fingerprint)
        64
    """

    def __init__(self) -> None:
        self._tree = SourceTree()
        self._codes: dict[str, Code] = {}

    def of(self, record: RunRecord) -> Code:
        """Return the code that a run with the settings of a record has now; empty if a component is not installed."""
        # Neither the seed nor the execution selects code, so all seeds of a stack share one lookup.
        spec = json.dumps({**record.spec, "seed": 0, "execution": {}}, sort_keys=True)
        if spec not in self._codes:
            try:
                self._codes[spec] = as_code(resolve(json.loads(spec), self._tree).code)
            except UserError:
                self._codes[spec] = ()
        return self._codes[spec]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the source of all installed components: if it is unchanged, so is the code of every run."""
        modules = {f"{kind}.{name}": entry.module for kind in KINDS for name, entry in list_entries(kind).items()}
        return hashlib.sha256(json.dumps(self._tree.code(modules), sort_keys=True).encode()).hexdigest()
