"""People's door: the command line and the HTTP API that manage organisations, keys, rules and limits.

`registry` writes the records that the gateways read, `edits` is what can be done to one; `clickhouse` is how `changes`
(who changed what) and `in_use` (of keys and rules) are read; `__main__` is the command line, `api` the same for
programs. Nothing on the data path needs this package.
"""
