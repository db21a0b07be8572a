"""Request in, the same bytes out, one event per request. Knows nothing of ClickHouse or of prices.

Reading order is the way of a request: `proxy` (the whole way in one file), `auth`, `detection` with `providers` and
`models.toml`, `routes`, `body`, `headers`, `attempts` with `redirect` (where a rule sends it, and where next),
`upstream` with `transport` (HTTP/1.1 to the providers), `relay` with `usage`, `exchange` (becomes the event),
`shipper`. Around it: `registry` with `intake` and `directory` (organisations in memory), `registry_copy` with
`snapshot` (their copy on disk), `server` and `client` (HTTP from the applications), `probes` (health and metrics),
`app` (puts the parts together), `workers` (several gateways on one port), `settings`, `faults`; `limits` and `budgets`
decide who may pass.
Where an organisation wants it, `usage_request` asks for the usage of streams whose client did not, and `usage_relay`
with `usage_strip` takes out of the answer what that added.

The rule of this package: no database call, no wait on Redis and no wait on a disk between a client and its provider.
"""
