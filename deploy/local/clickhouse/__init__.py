"""The embedded ClickHouse engine behind an HTTP door that ClickHouse's own clients can use.

In reading order: `__main__` (process), `app` (routes), `ask` (what a request asks for), `auth`, `upload` and `codings`
(bodies), `sql` (what kind of statement it is), `answering` (run it), `sessions`, `engine` and `config` (the engine),
`faults` (its errors and their HTTP statuses).

Guarantee: an INSERT is answered with 200 only after the engine stored every row and ran every materialized view.
Data that arrives with an INSERT goes through `FROM INFILE` on an anonymous file, because the engine's own streaming
insert reports success when a constraint or a view rejected the rows.

What a client may do: everything inside the engine, nothing outside it. The engine's user has no right on files, URLs,
other databases, dictionaries or shutdown (`config`), statements that name local files are refused (`sql`).
The scalar function `file` has no right of its own in the engine, so the name itself is refused.

Not spoken here: TLS, external tables, `compress=1` / `decompress=1`, roles, quotas, progress headers,
KILL QUERY by the client's `query_id` (the engine gives its own; kill by query text), dictionaries.
"""
