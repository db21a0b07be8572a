"""People's door: for now the command line that manages organisations, keys and where requests go.

`registry` writes the records that the gateways read; `clickhouse` is how `changes` (who changed what) and `in_use` (of
keys and rules) are read; `__main__` is the command line. Nothing on the data path needs this package.
"""
