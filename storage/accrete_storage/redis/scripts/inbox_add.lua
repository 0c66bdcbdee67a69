-- Put an image into the inbox, in the place of another where there is none.
-- KEYS: the inbox (7). ARGV: id, item (JSON), image, feature, mark, doubt, places, and of them how many one principal's.
-- Returns 1, or 0 where its principal has all of its places with images that are as doubtful.
local open = KEYS[5]
local principal, doubt = string.match(ARGV[5], '^%x+|(.*)$'), tonumber(ARGV[6])
local places, own_places = tonumber(ARGV[7]), tonumber(ARGV[8])
local ids = redis.call('ZRANGE', open, 0, -1)

if #ids >= own_places then
  -- A thousand at a time, since Lua's stack bounds how many arguments a call may have.
  local owners, counts = {}, {}
  for first = 1, #ids, 1000 do
    for i, mark in ipairs(redis.call('HMGET', KEYS[4], unpack(ids, first, math.min(first + 999, #ids)))) do
      local owner = string.match(mark or '', '^%x+|(.*)$') or ''
      owners[first + i - 1] = owner
      counts[owner] = (counts[owner] or 0) + 1
    end
  end
  local crowded = nil
  if (counts[principal] or 0) >= own_places then
    crowded = principal
  elseif #ids >= places then
    for owner, count in pairs(counts) do
      if not crowded or count > counts[crowded] or (count == counts[crowded] and owner < crowded) then crowded = owner end
    end
  end
  if crowded then
    local at = 1
    while owners[at] ~= crowded do at = at + 1 end
    if crowded == principal and tonumber(redis.call('ZSCORE', open, ids[at])) >= doubt then return 0 end
    leave_inbox(ids[at], 1)
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[5])
redis.call('ZADD', open, doubt, ARGV[1])
return 1
