-- Shared by all scripts.

local MAX_EVENTS = 10000

local function event(key, kind, body)
  return redis.call('XADD', key, 'MAXLEN', '~', MAX_EVENTS, '*', 'k', kind, 'b', body)
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

-- A stream's entries are counted anew from what is left in it, which after a step is little.
local function recount_pending(stream, label, labels, totals, bytes_key, holdout_key, count_before)
  local bytes_before = number(bytes_key, label)
  local bytes, holdout, count = 0, 0, 0
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    count = count + 1
    bytes = bytes + #entry[2][2]
    if entry[2][4] == '1' then holdout = holdout + 1 end
  end
  redis.call('HINCRBY', totals, 'examples', count - count_before)
  redis.call('HINCRBY', totals, 'bytes', bytes - bytes_before)
  if count == 0 then
    redis.call('SREM', labels, label)
    redis.call('HDEL', bytes_key, label)
    redis.call('HDEL', holdout_key, label)
  else
    redis.call('HSET', bytes_key, label, bytes)
    redis.call('HSET', holdout_key, label, holdout)
  end
end

local function recount_exemplars(list, label, bytes_key)
  local bytes = 0
  for _, record in ipairs(redis.call('LRANGE', list, 0, -1)) do bytes = bytes + #record end
  if bytes == 0 then redis.call('HDEL', bytes_key, label) else redis.call('HSET', bytes_key, label, bytes) end
end

