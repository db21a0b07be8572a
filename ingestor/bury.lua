#!lua flags=allow-oom
-- Move an entry that cannot be stored to the dead-letter stream, with its reason and all its fields.
-- KEYS: lease, pending, frames, done, dead. ARGV: owner, entry id, reason, detail, record or '', source, marks or ''.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
local found = redis.call('XRANGE', KEYS[3], ARGV[2], ARGV[2])
if #found > 0 then
  redis.call('XADD', KEYS[5], '*', 'id', ARGV[2], 'reason', ARGV[3], 'detail', ARGV[4], unpack(found[1][2]))
  redis.call('XDEL', KEYS[3], ARGV[2])
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[6], ARGV[7])
end
if ARGV[5] ~= '' and redis.call('GET', KEYS[2]) == ARGV[5] then
  redis.call('DEL', KEYS[2])
end
return 'ok'
