"""Organisations declared in a file: what stands there becomes what the registry holds, for whoever keeps it under git.

In reading order: `file` reads bytes, `text` (with `yaml_text` and `values`) makes plain data of them, `records` makes
organisations of those (with `checks` and `faults`), checked as every other change is. `plan` says what would have to be
done (`differences`: in which fields), `apply` does it, `keeper` does so again when the file or the registry changes.

A file that cannot be read, or has anything wrong with it, changes nothing. Traps: half of a file that is just being
written may read as a whole one with fewer organisations; a template that failed to render may declare none.
"""
