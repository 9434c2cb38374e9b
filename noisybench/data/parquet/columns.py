"""Columns of parquet files: which of them hold images, labels and class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.splits.names import ROLES, Role, find_splits, split_role
from noisybench.errors import UserError, nearest, show

IMAGE_NAMES = ("image", "img")
"""Columns that hold the images if several could."""

LABEL_NAMES = ("label", "labels")
"""Columns that hold the labels if several could."""

MAX_LISTED = 10
"""Largest number of columns that a message lists."""

SPLIT_COLUMNS = ("split", "subset", "partition", "data_split", "dataset_split")
"""Columns that hold the splits if their values are names of splits."""


def class_names_of(schema: Any, column: str) -> list[str] | None:
    """Return the class names that the Hugging Face library ``datasets`` stores for an integer column.

    Args:
        schema: Arrow schema of the file.
        column: name of the column.

    Returns:
        Names of the feature ``ClassLabel``; None for other columns.

    Example:
        >>> import pyarrow
        >>> metadata = {"huggingface": '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'}
        >>> class_names_of(pyarrow.schema({"label": pyarrow.int64()}, metadata), "label")
        ['cat', 'dog']
    """
    try:
        # Files of other writers lack this entry or fill it differently, and the names are optional.
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None


def label_column(schema: Any, where: str, name: str | None, others: Sequence[str] = ()) -> str:
    """Return the name of the column with the labels.

    Args:
        schema: Arrow schema of the file.
        where: beginning of messages, with the name of the file.
        name: name that the user gives; None to find the column.
        others: columns that are no labels.

    Raises:
        UserError: there is no such column, or several could be meant.

    Example:
        >>> import pyarrow
        >>> label_column(pyarrow.schema({"scan": pyarrow.binary(), "class": pyarrow.string()}), "a.parquet", None)
        'class'
    """
    if name is not None:
        if name not in schema.names:
            raise UserError(f"{where} has no column `{name}`; {nearest(name, schema.names)}")
        return name
    candidates = [
        field.name
        for field in schema
        if field.name not in others and not field.name.startswith("__") and _may_be_label(field.type)
    ]
    # Whatever its type, so that the reader of labels says why it cannot be used.
    usual = [name for name in schema.names if name in LABEL_NAMES]
    declared = [column for column in candidates if class_names_of(schema, column)]
    for chosen in (usual, declared, candidates):
        if len(chosen) == 1:
            return str(chosen[0])
    problem = f"several columns that could be labels: {', '.join(candidates)}" if candidates else "no column of labels"
    raise UserError(
        f"{where} has {problem}; set dataset.label to the name of a column of integers or text ({', '.join(schema.names)})"
    )


def split_rows(column: Any, where: str, required: bool) -> dict[Role, NDArray[np.int64]]:
    """Return the rows of each split by a column of their names.

    Args:
        column: Arrow column.
        where: beginning of messages, with the name of the column.
        required: refuse values that stand for no split; otherwise such a column holds something else.

    Returns:
        Sorted rows of each split; nothing if the column holds something else.

    Raises:
        UserError: a value stands for no split, there is no training split, or two spellings stand for one.

    Example:
        >>> import pyarrow
        >>> rows = split_rows(pyarrow.array(["train", "test", "train"]), "a.parquet", required=True)
        >>> {role: found.tolist() for role, found in rows.items()}
        {'train': [0, 2], 'test': [1]}
    """
    values = column.to_pylist()
    distinct = dict.fromkeys(values)
    others = [value for value in distinct if not isinstance(value, str) or split_role(value) is None]
    if others and required:
        raise UserError(
            f"{where}: row {values.index(others[0])} has {show(others[0])}, which stands for no split; write train, "
            "validation or test"
        )
    if others:
        return {}
    roles = {name: role for role, names in find_splits(distinct, where).names.items() for name in names}
    if "train" not in roles.values():
        if not required:
            return {}
        raise UserError(f"{where}: there is no training split, but {', '.join(distinct)}; write train for its rows")
    of_row = np.array([roles[value] for value in values])
    return {role: np.flatnonzero(of_row == role) for role in ROLES if role in roles.values()}


def image_column(schema: Any, where: str, image: str | None) -> str:
    """Return the name of the column with the images.

    Args:
        schema: Arrow schema of the file.
        where: beginning of messages, with the name of the file.
        image: name that the user gives; None to find the column by its type.

    Raises:
        UserError: there is no such column, or several could be meant.

    Example:
        >>> import pyarrow
        >>> image_column(pyarrow.schema({"id": pyarrow.int64(), "scan": pyarrow.binary()}), "a.parquet", None)
        'scan'
    """
    candidates = [field.name for field in schema if _may_be_image(field.type)]
    if image is not None:
        if image not in schema.names:
            raise UserError(f"{where} has no column `{image}`; {nearest(image, schema.names)}")
        kind = schema.field(image).type
        if image not in candidates and not is_text(kind):
            raise UserError(f"{where}: the column `{image}` has the type {kind}; {_unsupported(kind)}")
        return image
    usual = [name for name in candidates if name in IMAGE_NAMES]
    for chosen in (candidates, usual):
        if len(chosen) == 1:
            return str(chosen[0])
    if candidates:
        raise UserError(
            f"{where}: several columns could be the images; set dataset.image to one of {', '.join(candidates)}"
        )
    for field in schema:
        if field.name in IMAGE_NAMES:
            if is_text(field.type):
                return str(field.name)
            raise UserError(f"{where}: the column `{field.name}` has the type {field.type}; {_unsupported(field.type)}")
    listed = ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:MAX_LISTED])
    listed += f" … ({len(schema)} columns)" if len(schema) > MAX_LISTED else ""
    raise UserError(
        f"{where} has no column of images (structs of bytes or path, or binary values), but {listed or 'no columns'}; text "
        f"with names of image files ({', '.join(IMAGE_SUFFIXES[:3])} …) needs dataset.image=COLUMN"
    )


def _unsupported(kind: Any) -> str:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if _may_be_image(kind.value_type):
            return "each row must have one image, not a list of images; write one row for each image"
        return "pixels in lists are not supported; save the images as encoded bytes, such as PNG, or as a .npz file"
    return "images are structs of bytes or path, binary values, or text with names of files"


def _may_be_image(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        fields = fields_of(kind)
        # A writer that has only seen missing bytes gives them no type.
        has_bytes = "bytes" in fields and _is_binary(fields["bytes"])
        return has_bytes or ("path" in fields and set(fields) <= {"bytes", "path"} and is_text(fields["path"]))
    return _is_binary(kind)


def _may_be_label(kind: Any) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_integer(kind) or types.is_boolean(kind) or is_text(kind)


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_text(kind: Any) -> bool:
    """Return True if an Arrow type is text."""
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of an Arrow struct by name; nothing for other types."""
    import pyarrow.types as types

    if not types.is_struct(kind):
        return {}
    return {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}


def schema_difference(first: Any, other: Any) -> str:
    """Return a description of the first difference of two schemas in columns, types or class names; empty without one."""
    for field in first:
        if field.name not in other.names:
            return f"it lacks `{field.name}`"
        if other.field(field.name).type != field.type:
            return f"`{field.name}` is {other.field(field.name).type}, not {field.type}"
    extra = [name for name in other.names if name not in first.names]
    if extra:
        return f"it also has `{extra[0]}`"
    renamed = next((name for name in first.names if class_names_of(first, name) != class_names_of(other, name)), None)
    return "" if renamed is None else f"`{renamed}` has other class names"
