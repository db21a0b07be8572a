#!lua flags=allow-oom
-- Put the bounds of a batch on record before its insert. KEYS: lease, pending, done. ARGV: owner, record.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
local run = run_id()
if redis.call('HGET', KEYS[3], 'run') ~= run then
  return 'run'
end
redis.call('SET', KEYS[2], ARGV[2])
return 'ok'
