-- Append one frame, once. KEYS: stream, accepted, ended. ARGV: source, floor, expected seq, first seq, count, frame.
-- Answers the next seq that Redis expects of the source. It appended if that is behind the frame and was not before.
-- The numbers from `expected` to `first` belong to no event. All below `floor` is in ClickHouse, whatever Redis has
-- forgotten. Any other beginning than the expected one is answered with what is expected: a repeat after a lost answer
-- goes on behind it, and a Redis that lost its end, or everything, gets it again.
local accepted = math.max(tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0'), tonumber(ARGV[2]))
if accepted ~= tonumber(ARGV[3]) then
  return accepted
end
local following = tonumber(ARGV[4]) + tonumber(ARGV[5])
redis.call('XADD', KEYS[1], '*', 's', ARGV[1], 'o', ARGV[2], 'p', ARGV[3], 'a', ARGV[4], 'n', ARGV[5], 'f', ARGV[6])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d', following))
-- An end record that a frame follows was not the last word: somebody took a copy of a journal for all there is.
if redis.call('HGET', KEYS[3], ARGV[1]) == '0' then
  redis.call('HDEL', KEYS[3], ARGV[1])
end
return following
