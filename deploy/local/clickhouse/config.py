"""The engine's configuration files: memory bound, and a user that may do nothing outside the engine.

In: a directory, a memory bound. Out: `config.xml` and `users.xml`, written anew at each start.
"""

from pathlib import Path
from typing import Final

GRANTS: Final = (
    "SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, CREATE FUNCTION, "
    "DROP DATABASE, DROP TABLE, DROP VIEW, DROP FUNCTION, UNDROP TABLE, TRUNCATE, OPTIMIZE, SHOW, KILL QUERY, dictGet, "
    "SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM MOVES, SYSTEM FLUSH, SYSTEM DROP CACHE, SYSTEM RELOAD, SYSTEM VIEWS, "
    "SYSTEM SYNC REPLICA"
)
"""Positive list. Left out on purpose: every source (FILE, URL, S3, REMOTE, …), BACKUP, SYSTEM SHUTDOWN, access
management, and CREATE DICTIONARY, whose EXECUTABLE source would run commands."""

FROZEN_SETTINGS: Final = (
    "format_schema",
    "format_schema_source",
    "format_template_row",
    "format_template_resultset",
    "allow_experimental_eval_table_function",
)
"""Settings that name files or turn strings into SQL, out of reach of the check of names in `sql`."""

_CONFIG = """<clickhouse>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <remote_url_allow_hosts><host>none.invalid</host></remote_url_allow_hosts>
  <user_directories><users_xml><path>config/users.xml</path></users_xml></user_directories>
</clickhouse>
"""
_USERS = """<clickhouse>
  <profiles><default>
    <async_insert>0</async_insert>
    <implicit_select>0</implicit_select>
    <allow_introspection_functions>0</allow_introspection_functions>
    <constraints>{constraints}</constraints>
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants><query>GRANT {grants} ON *.*</query></grants>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
"""


def write_config(directory: Path, memory_bytes: int) -> None:
    """Write both files. The engine's user has no password: nobody reaches it but through the door."""
    directory.mkdir(exist_ok=True)
    constraints = "".join(f"<{name}><readonly/></{name}>" for name in FROZEN_SETTINGS)
    (directory / "config.xml").write_text(_CONFIG.format(memory_bytes=memory_bytes), encoding="utf-8")
    (directory / "users.xml").write_text(_USERS.format(grants=GRANTS, constraints=constraints), encoding="utf-8")
