"""CSV and Parquet, through pyarrow. List columns become one column for each component."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.table import Table, flat


def read(path: Path) -> Table:
    """Raises DatasetValueError for a file that pyarrow cannot read."""
    try:
        if path.suffix.lower() == ".parquet":
            content = pyarrow.parquet.read_table(path)
        else:
            options = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            content = pyarrow.csv.read_csv(path, parse_options=options)
    except (pa.ArrowException, OSError) as error:
        raise DatasetValueError(f"{path.name} cannot be read ({error}). Copy or export it again.") from error
    columns = columns_of(path.name, content)
    rows = content.num_rows
    return Table(path.stem, columns, np.zeros(rows, np.int64), provenance={"file": path.name, "rows_in_file": rows})


def columns_of(owner: str, content: pa.Table) -> dict[str, Array]:
    """Every column as numpy, (N,); times in seconds. Raises DatasetValueError for two columns of one name."""
    names = [name.strip().lstrip("\ufeff") for name in content.column_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetValueError(f"{owner} has two columns of the name {twice[0]!r}: rename one.")
    columns: dict[str, Array] = {}
    for name, column in zip(names, content.columns, strict=True):
        columns |= _arrays(owner, name, column)
    return columns


def _arrays(owner: str, name: str, column: pa.ChunkedArray) -> dict[str, Array]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return {name: pc.cast(column, pa.int64()).to_numpy() / per_second}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        array = column.combine_chunks()
        sizes = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if len(sizes) and (sizes != sizes[0]).any():
            return {}  # of varying length: no vector
        width = int(sizes[0]) if len(sizes) else 0
        return flat(name, array.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
    if pa.types.is_boolean(kind):
        filled = pc.cast(column, pa.float64())
        return {name: filled.to_numpy() if column.null_count else filled.to_numpy() > 0.5}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if column.null_count:
            column = pc.cast(column, pa.float64())
        return {name: column.to_numpy()}
    if pa.types.is_null(kind):
        return {name: np.full(len(column), np.nan)}
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return {name: np.asarray(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist(), dtype=np.str_)}
    return {}  # structures, bytes, images: no numbers
