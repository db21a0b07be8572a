#!lua flags=allow-oom
-- Put the bounds of a batch on record before its insert. KEYS: lease, pending. ARGV: owner, record.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
redis.call('SET', KEYS[2], ARGV[2])
return 'ok'
