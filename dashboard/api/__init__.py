"""The admin HTTP API: what an operator sets, for programs. `python -m dashboard serve`.

In reading order: `app` starts and stops it; `operations` is the one table of what there is, each an `operation`, from
which `server` makes the routes and `openapi` the document, so that neither can say what the other does not; `door` lets
a request in (secret, rate, size, form) and turns whatever goes wrong into one of `faults`; `registry_calls` runs one of
`handlers` in a thread, as the registry's client blocks; `request_bodies`, `answer_bodies`, `declaration_bodies` and
`clickhouse_bodies` are the JSON.

Every change is one of dashboard/edits.py, or a whole declaration (dashboard/declared), made by the same Registry as the
command line's: whoever changes what at the same time, nothing is lost. The API keeps nothing: several of them may run.
"""
