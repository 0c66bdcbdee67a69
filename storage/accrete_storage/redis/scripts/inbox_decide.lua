-- Note what somebody said about images in the inbox, but for those that have a label already.
-- KEYS: the inbox (7). ARGV: decision (JSON), its time, how many with one are kept at most, then ids.
-- Returns for each "" (noted), "GONE", or the decision (JSON) that gave it its label.
local answers = {}
for i = 4, #ARGV do
  local id, before = ARGV[i], redis.call('HGET', KEYS[6], ARGV[i])
  if redis.call('HEXISTS', KEYS[1], id) == 0 then
    answers[#answers + 1] = 'GONE'
  elseif before and cjson.decode(before).state == 'labelled' then
    answers[#answers + 1] = before
  else
    redis.call('HSET', KEYS[6], id, ARGV[1])
    redis.call('ZREM', KEYS[5], id)
    redis.call('ZADD', KEYS[7], ARGV[2], id)
    answers[#answers + 1] = ''
  end
end
local beyond = redis.call('ZCARD', KEYS[7]) - tonumber(ARGV[3])
if beyond > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[7], 0, beyond - 1)) do leave_inbox(id, 1) end
end
return answers
