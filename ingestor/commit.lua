#!lua flags=allow-oom
-- A batch is stored: advance the marks, drop its entries, drop its record, all or nothing.
-- KEYS: lease, pending, frames, done. ARGV: owner, record, last entry id, then source, next seq, ...
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 'pending'
end
for i = 4, #ARGV, 2 do
  -- Never backwards: a record that reappears after a rollback of Redis must not move a mark back.
  local mark = redis.call('HGET', KEYS[4], ARGV[i])
  if not mark or tonumber(mark) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
  end
end
-- MINID keeps its own id, so the last entry goes by name. Batches start at the head: all below belongs to this one.
redis.call('XTRIM', KEYS[3], 'MINID', '=', ARGV[3])
redis.call('XDEL', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[2])
return 'ok'
