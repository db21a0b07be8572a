"""People's door: the command line and the HTTP API that manage organisations, keys, rules and limits.

`registry` writes the records that the gateways read, `edits` is what can be done to one; `__main__` is the command
line, `api` the same for programs. Nothing on the data path needs this package.
"""
