"""Measurements, side by side in one run; `make bench` prints tables. Nothing here asserts a speed.

`__main__` runs the sections: `plain` (requests), `streams` (events, memory, stalls) and `outages` (Redis black-holed).
`lineup` starts who takes part: `targets` (nginx, a bare aiohttp proxy), `installation` (Lectr with its analytics on),
`peers` (LiteLLM and Portkey, which `install_peers` gets). In front of them stands `load`, behind them `upstream`, each
a process of its own; `payloads` is what both know, and any other byte stops the run. `report` and `goals` print. `soak`
is a run of its own, and so is `ingest`: `make bench-ingest` brings a full stream of `ingest_events` into ClickHouse.
"""
