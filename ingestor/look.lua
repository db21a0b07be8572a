-- What is going on in a partition: {record of the batch that is being inserted or false, are the marks to be trusted,
-- how often they were written, 1 while gateways have not had the time to announce themselves since marks were made anew}.
-- KEYS: pending, done, settling. Marks that were written under another run of Redis may be older than what was stored.
-- include run_id.lua
local run = redis.call('HGET', KEYS[2], 'run')
local trust = 'other_run'
if not run then
  trust = 'nothing_known'
elseif run == run_id() then
  trust = 'this_run'
end
local writes = tonumber(redis.call('HGET', KEYS[2], 'writes') or '0')
return {redis.call('GET', KEYS[1]), trust, writes, redis.call('EXISTS', KEYS[3])}
