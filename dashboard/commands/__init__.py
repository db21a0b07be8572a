"""The command line: one file for each thing that an operator sets. All changes are `edits`, as through the HTTP API."""
