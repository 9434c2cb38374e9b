"""A published label set as a dataset of the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from noisybench.errors import UserError
from noisybench.sharing.addresses import copy_limited
from noisybench.sharing.remote import connection_errors

HUB_FILES = (".gitattributes",)
"""Files that the Hub adds to every dataset."""


class HubStore:
    """Files of a dataset of the Hub at one commit."""

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.name = name
        self.revision = revision
        self.address = f"hf://datasets/{name}" + (f"@{revision}" if revision else "")
        self.default_name = name.rpartition("/")[2]
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise UserError(f"{self.address}: needs huggingface_hub; pip install 'noisybench[share]'") from None
        # Read here, because the library reads it only when it is imported.
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        self._listing: tuple[str, set[str]] | None = None

    def names(self) -> set[str] | None:
        """Return the names of all files; none if the dataset does not exist."""
        try:
            return self._commit()[1]
        except FileNotFoundError:
            return set()

    def read(self, name: str, target: Path, limit: int) -> None:
        """Copy a file to this machine's ``target``, always of the commit that was found first."""
        from huggingface_hub import HfFileSystem

        commit, names = self._commit()
        if name not in names:
            raise FileNotFoundError(name)
        with connection_errors(self.address):
            files = HfFileSystem(endpoint=self._api.endpoint, skip_instance_cache=True)
            with files.open(f"datasets/{self.name}@{commit}/{name}", "rb", block_size=0) as source:
                copy_limited(source, target, limit)

    def write(self, folder: Path, names: list[str], obsolete: list[str]) -> None:
        """Upload files in one commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in obsolete if name not in names]
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
        with connection_errors(self.address):
            self._api.create_repo(self.name, repo_type="dataset", exist_ok=True)
            self._api.create_commit(
                self.name,
                operations,
                commit_message="Publish a label set of noisybench",
                repo_type="dataset",
                revision=self.revision,
            )

    def _commit(self) -> tuple[str, set[str]]:
        """Return the commit and its files.

        Raises:
            FileNotFoundError: there is no such dataset or revision.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        if self._listing is None:
            with connection_errors(self.address):
                try:
                    info = self._api.dataset_info(self.name, revision=self.revision)
                except GatedRepoError as error:
                    raise PermissionError(str(error)) from None
                except (RepositoryNotFoundError, RevisionNotFoundError) as error:
                    raise FileNotFoundError(str(error)) from None
            names = {file.rfilename for file in info.siblings or ()} - set(HUB_FILES)
            self._listing = str(info.sha), names
        return self._listing
