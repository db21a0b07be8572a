#!lua flags=allow-oom
-- Expect again what is missing of some sources although later events of theirs are stored: frames have vanished.
-- KEYS: lease, accepted, ended, done. ARGV: owner, how often the marks were written, then source, seq below which nothing
-- is missing, ...
-- What comes again and is there already is left out by the marks. The end of a source is only true with nothing missing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lease'
end
if (redis.call('HGET', KEYS[4], 'writes') or '0') ~= ARGV[2] then
  return 'run'
end
for i = 3, #ARGV, 2 do
  local accepted = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0')
  if accepted > tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
  if redis.call('HGET', KEYS[3], ARGV[i]) == '0' then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end
return 'ok'
