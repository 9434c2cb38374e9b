"""Connection."""

from __future__ import annotations

import functools
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from noisybench.errors import StoreUnavailable

if TYPE_CHECKING:
    from noisybench.tracking.store import Store

EXPERIMENT = "noisybench"

PREFIX = "noisybench."

DATABASE = "mlflow.db"

ARTIFACTS = "mlartifacts"

Method = TypeVar("Method", bound=Callable[..., Any])


def _answering(method: Method) -> Method:
    """Have a method of the store say so where the store does not answer.

    Raises:
        StoreAway: a server cannot be reached, or its own database cannot.
    """

    @functools.wraps(method)
    def call(store: Store, *arguments: Any, **named: Any) -> Any:
        try:
            return method(store, *arguments, **named)
        except Exception as error:
            if not _is_absence(error):
                raise
            reason = str(error).strip().splitlines()[0][-200:]
            raise StoreUnavailable(
                f"the store {_without_password(store.uri)} does not answer ({reason}); nothing is lost, the same command goes on "
                "when it does"
            ) from None

    return cast(Method, call)


def _is_absence(error: Exception) -> bool:
    """Whether it says that a store is away, not that it was asked for something wrong."""
    code = getattr(error, "error_code", "")
    if type(error).__module__.startswith("mlflow"):
        return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or "API request to" in str(error)
    return type(error).__module__.startswith(("requests", "urllib3", "sqlalchemy"))


def _without_password(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri
