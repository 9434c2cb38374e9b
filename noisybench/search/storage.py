"""The SQLite file of the studies: created as a whole, and recognized when its creation was interrupted."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from pathlib import Path

from noisybench.config.spec import WORKSPACE
from noisybench.errors import UserError
from noisybench.utils.locks import exclusive
from noisybench.utils.sqlite import create_whole, filled_tables, set_aside_database

logger = logging.getLogger("noisybench")


def create_study_database(path: Path) -> None:
    """Create the SQLite file of the studies as a whole, unless it is complete; one without studies is set aside.

    Raises:
        UserError: the file cannot be created, is damaged, or belongs to another program.
    """
    try:
        if _is_complete(path):
            return
        # A folder that a user has mistyped is not created.
        if not path.parent.is_dir() and path.parent != WORKSPACE.absolute():
            raise FileNotFoundError(f"the folder {path.parent} does not exist")
        with exclusive(path.with_suffix(".lock")):
            if _is_complete(path):  # another process has created it meanwhile
                return
            if path.is_file() and path.stat().st_size and (target := set_aside_database(path)):
                logger.warning(
                    "the creation of %s was interrupted before its first study: it is created again (the unfinished file "
                    "is now %s)", path, target.name
                )  # fmt: skip
            create_whole(path, _create_study_tables)
    except (OSError, sqlite3.Error) as error:
        is_damaged = "not a database" in str(error) or "malformed" in str(error)
        advice = (
            "`noisybench doctor --repair` sets it aside" if is_damaged else "check the permissions and the free space"
        )
        raise UserError(
            f"the file of studies {path} cannot be used ({error}); {advice}, or choose another --storage"
        ) from None


def _is_complete(path: Path) -> bool:
    """Return True if all tables exist.

    Raises:
        UserError: the file belongs to another program.
        sqlite3.Error: the file is damaged.
    """
    if not path.is_file():
        return False
    tables = filled_tables(path)
    # Optuna fills these two after it has created all tables.
    if tables.get("version_info") and tables.get("alembic_version"):
        return True
    filled = [table for table, has_rows in tables.items() if has_rows and table != "alembic_version"]
    if filled:
        raise UserError(f"{path} is no database of studies (it has the table `{filled[0]}`); choose another --storage")
    return False


def study_problem(path: Path) -> str | None:
    """Return why the file of the studies cannot be used; None if it can."""
    try:
        return None if _is_complete(path) else "is unfinished"
    except UserError:
        return "belongs to another program"
    except sqlite3.Error as error:
        return f"is damaged ({error})"


def _create_study_tables(path: Path) -> None:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.as_posix()}")
        storage.remove_session()
        storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise sqlite3.OperationalError(str(error.__cause__ or error).splitlines()[0]) from None


def quiet_optuna() -> None:
    """Silence messages of Optuna that noisybench reports in its own words."""
    import optuna

    # Optuna marks heartbeats as experimental and expects its own loop to send them; `TrialRunner` sends them here.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
