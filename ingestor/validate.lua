#!lua flags=allow-oom
-- The marks, as ClickHouse knows them, replace what this run of Redis holds. The batch in doubt was repeated or given up.
-- KEYS: lease, pending, done, seen, ended, settling. ARGV: owner, how often marks were written as far as it knows, for how
-- many ms nothing is to be reported, number of sources, then source, marks for each, then source, what it would have said
-- of itself, of runs that ClickHouse knows and that have not ended: they count as seen until they are heard again.
-- include run_id.lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
local writes = math.max(tonumber(redis.call('HGET', KEYS[3], 'writes') or '0'), tonumber(ARGV[2])) + 1
redis.call('DEL', KEYS[2], KEYS[3])
local following = 5 + 2 * tonumber(ARGV[4])
for i = 5, following - 1, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
for i = following, #ARGV, 2 do
  -- Below 0 it was given up.
  if tonumber(redis.call('HGET', KEYS[5], ARGV[i]) or '0') >= 0 then
    redis.call('HSETNX', KEYS[4], ARGV[i], ARGV[i + 1])
  end
end
redis.call('SET', KEYS[6], '1', 'PX', ARGV[3])
redis.call('HSET', KEYS[3], 'run', run_id(), 'writes', string.format('%d', writes))
return 'ok'
