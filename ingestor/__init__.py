"""Stream in, priced rows out; from the stream on nothing is lost and nothing is stored twice.

Reading order is the way of an event: `worker` (the whole way in one file), `reader` (frames from the head of a
partition), `batch` (frames to a batch with bounds), `rows` (a batch to one block) with `fields` (events turned on
their side), `costs` (what they cost together), `pricing` (what one costs), `pricelist` and `org_prices` (at which
rates) and `native` (the block's bytes), `clickhouse` (insert), `ledger` (which batch is being inserted, what is done),
`lease` (who owns a partition). `deadletter` keeps what cannot be stored. Beside it: `registry_reader` (budgets and
negotiated prices), `registry_log` and `registry_keeper` (what operators changed), `spending` (totals of budgets).
Around it: `app` (puts the parts together), `migrate` (tables and views), `redis_link` (the Redis client), `probes`,
`settings`, `faults`.

The guarantee: the bounds of a batch are on record before its insert. After a crash, a lost answer or a change of
owner the same stream entries make the same rows under the same deduplication token, which ClickHouse stores once.
Entries leave the stream in the same step that marks them done.

What a replay may change: the cost, when another release with another price list repeats a batch, or an organisation's
own prices were changed meanwhile. The token holds no
prices, so ClickHouse decides per part: stored already, or stored now. Each event ends up there once, with one price.

Traps: a token that is repeated hides whatever the second insert holds, so it is bound to the content (checksum of the
frames); a batch is one block, because ClickHouse applies the token per block; no attempt limits anywhere.
"""
