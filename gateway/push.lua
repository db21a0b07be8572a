-- Append one frame, once. KEYS: stream, accepted. ARGV: source, first seq, count, frame.
-- Answers the next seq that Redis expects of the source. A repeat after a lost answer changes nothing.
-- A frame that starts later than expected is taken: the gateway no longer has what is missing, and the
-- hole stays visible in the sequence numbers.
local accepted = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local first = tonumber(ARGV[2])
local following = first + tonumber(ARGV[3])
if following <= accepted then
  return accepted
end
redis.call('XADD', KEYS[1], '*', 's', ARGV[1], 'a', ARGV[2], 'n', ARGV[3], 'f', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], tostring(following))
return following
