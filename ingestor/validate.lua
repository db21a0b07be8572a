#!lua flags=allow-oom
-- The marks, as ClickHouse knows them, replace what this run of Redis holds. The batch in doubt was repeated or given up.
-- KEYS: lease, pending, done. ARGV: owner, how often marks were written as far as it knows, then source, marks, ...
-- include run_id.lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
local writes = math.max(tonumber(redis.call('HGET', KEYS[3], 'writes') or '0'), tonumber(ARGV[2])) + 1
redis.call('DEL', KEYS[2], KEYS[3])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[3], 'run', run_id(), 'writes', string.format('%d', writes))
return 'ok'
