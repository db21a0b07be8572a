#!lua flags=allow-oom
-- Put the bounds of a batch on record before its insert. KEYS: lease, pending, done. ARGV: owner, record,
-- how often the marks were written when the batch was begun.
-- include run_id.lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
local run = run_id()
if redis.call('HGET', KEYS[3], 'run') ~= run or (redis.call('HGET', KEYS[3], 'writes') or '0') ~= ARGV[3] then
  return 'run'
end
redis.call('SET', KEYS[2], ARGV[2])
return 'ok'
