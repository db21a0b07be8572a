"""People's door: for now the command line that manages organisations, keys and Azure endpoints.

`registry` writes the records that the gateways read; `__main__` is the command line. Nothing on the data path needs
this package.
"""
