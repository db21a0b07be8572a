"""Reads blocks in Native format back with the driver's own reader."""

from typing import Any

from clickhouse_connect.driver.asyncclient import BytesSource
from clickhouse_connect.driver.ctypes import RespBuffCls
from clickhouse_connect.driver.query import QueryContext
from clickhouse_connect.driver.transform import NativeTransform


def read_block(data: bytes) -> list[dict[str, Any]]:
    """Rows as name to value. Whatever is wrong with the block raises."""
    source: Any = RespBuffCls(BytesSource(data))  # type: ignore[no-untyped-call] # the driver leaves it untyped
    result: Any = NativeTransform().parse_response(source, QueryContext())
    return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
