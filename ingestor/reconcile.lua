#!lua flags=allow-oom
-- Frames that were accepted and are neither stored nor in the stream have vanished: expect them again from their sources.
-- KEYS: lease, pending, frames, accepted, done, ended. ARGV: owner, how often the marks were written, then the look before:
-- last entry's id or '', number of sources, source, what was accepted of it for each, sources whose end was on the stream.
-- Answers {how many numbers vanished, the next look in the same form}, and changes nothing while a batch is on record.
-- Everything accepted before a look is in the entries up to its last one. Once these are gone, what is still not taken care
-- of of it has vanished, whatever came since; nobody has to read the stream for that.
local nothing = {0, '', 0}
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('HGET', KEYS[5], 'writes') or '0') ~= ARGV[2] then
  return nothing
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return nothing
end
local idle = redis.call('XLEN', KEYS[3]) == 0
if not idle and ARGV[3] ~= '' and #redis.call('XRANGE', KEYS[3], '-', ARGV[3], 'COUNT', 1) > 0 then
  -- As it was: a look that moves on with the stream would never be over.
  local same = {0}
  for i = 3, #ARGV do
    same[#same + 1] = ARGV[i]
  end
  return same
end
local before, ending = {}, {}
local following = 5 + 2 * tonumber(ARGV[4])
for i = 5, following - 1, 2 do
  before[ARGV[i]] = tonumber(ARGV[i + 1])
end
for i = following, #ARGV do
  ending[ARGV[i]] = true
end
local vanished, waiting, ends = 0, {}, {}
local accepted = redis.call('HGETALL', KEYS[4])
for i = 1, #accepted, 2 do
  local source, now = accepted[i], tonumber(accepted[i + 1])
  local stored = string.match(redis.call('HGET', KEYS[5], source) or '0', '^%d+')
  local due = math.min(idle and now or before[source] or 0, now)
  if due > tonumber(stored) then
    vanished = vanished + due - tonumber(stored)
    redis.call('HSET', KEYS[4], source, stored)
  elseif now > tonumber(stored) then
    waiting[#waiting + 1] = source
    waiting[#waiting + 1] = accepted[i + 1]
  end
end
-- A record of an end that is on no stream and not stored has vanished, or was dropped as something before it had.
local ended = redis.call('HGETALL', KEYS[6])
for i = 1, #ended, 2 do
  if ended[i + 1] == '0' then
    if idle or ending[ended[i]] then
      redis.call('HDEL', KEYS[6], ended[i])
    else
      ends[#ends + 1] = ended[i]
    end
  end
end
if idle then
  return {vanished, '', 0}
end
local answer = {vanished, redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1][1], #waiting / 2}
for _, list in ipairs({waiting, ends}) do
  for _, item in ipairs(list) do
    answer[#answer + 1] = item
  end
end
return answer
