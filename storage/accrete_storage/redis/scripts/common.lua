-- Shared by all scripts.

local MAX_EVENTS = 10000

local function event(key, kind, body)
  return redis.call('XADD', key, 'MAXLEN', '~', MAX_EVENTS, '*', 'k', kind, 'b', body)
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

local function add_to(key, field, amount)
  if amount ~= 0 and redis.call('HINCRBY', key, field, amount) == 0 then redis.call('HDEL', key, field) end
end

-- Return a label's pending bytes by principal.
local function owners(key, label)
  return cjson.decode(redis.call('HGET', key, label) or '{}')
end

-- Count a stream's entries anew from what is left in it, which after a step is little.
-- KEYS[first] and the five after it are what is counted of pending: labels, totals, bytes, hold-out, owners, principals.
local function recount_pending(stream, label, first, count_before)
  local labels, totals, bytes_key, holdout_key = KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3]
  local owners_key, principals = KEYS[first + 4], KEYS[first + 5]
  local bytes_before = number(bytes_key, label)
  local bytes, holdout, count, owned = 0, 0, 0, {}
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    local size, principal = #entry[2][2], entry[2][6] or ''
    count = count + 1
    bytes = bytes + size
    owned[principal] = (owned[principal] or 0) + size
    if entry[2][4] == '1' then holdout = holdout + 1 end
  end
  for principal, size in pairs(owners(owners_key, label)) do add_to(principals, principal, -size) end
  for principal, size in pairs(owned) do add_to(principals, principal, size) end
  redis.call('HINCRBY', totals, 'examples', count - count_before)
  redis.call('HINCRBY', totals, 'bytes', bytes - bytes_before)
  if count == 0 then
    redis.call('SREM', labels, label)
    redis.call('HDEL', bytes_key, label)
    redis.call('HDEL', holdout_key, label)
    redis.call('HDEL', owners_key, label)
  else
    redis.call('HSET', bytes_key, label, bytes)
    redis.call('HSET', holdout_key, label, holdout)
    redis.call('HSET', owners_key, label, cjson.encode(owned))
  end
end

-- Take a pending example out of its stream and of what is counted, without reading the others, which may be gigabytes.
-- KEYS[first] as above. Return its entry, or nil when it is not there.
local function take_pending(stream, label, position, first)
  local entry = redis.call('XRANGE', stream, position, position)[1]
  if not entry then return nil end
  redis.call('XDEL', stream, position)
  if redis.call('XLEN', stream) == 0 then
    recount_pending(stream, label, first, 1)
    return entry
  end
  local size, principal, owned = #entry[2][2], entry[2][6] or '', owners(KEYS[first + 4], label)
  redis.call('HINCRBY', KEYS[first + 1], 'examples', -1)
  redis.call('HINCRBY', KEYS[first + 1], 'bytes', -size)
  redis.call('HINCRBY', KEYS[first + 2], label, -size)
  if entry[2][4] == '1' then redis.call('HINCRBY', KEYS[first + 3], label, -1) end
  -- What an earlier release stored may not be counted by principal.
  local counted = math.min(size, owned[principal] or 0)
  add_to(KEYS[first + 5], principal, -counted)
  owned[principal] = (owned[principal] or 0) - counted
  if owned[principal] == 0 then owned[principal] = nil end
  redis.call('HSET', KEYS[first + 4], label, cjson.encode(owned))
  return entry
end

local function recount_exemplars(list, label, bytes_key)
  local bytes = 0
  for _, record in ipairs(redis.call('LRANGE', list, 0, -1)) do bytes = bytes + #record end
  if bytes == 0 then redis.call('HDEL', bytes_key, label) else redis.call('HSET', bytes_key, label, bytes) end
end

-- Let an example's seen key name its new position.
local function reseat(seen, from, to)
  local digest, position, rest = string.match(redis.call('GET', seen) or '', '^(%x+)|([^|]+)|(.*)$')
  if position == from then redis.call('SET', seen, digest .. '|' .. to .. '|' .. rest, 'KEEPTTL') end
end

-- Take an example out of review; return its note and record, or nil when it is not there.
local function leave_review(label, position, totals, labels, notes, records)
  local note, record = redis.call('HGET', notes, position), redis.call('HGET', records, position)
  if not note then return nil end
  redis.call('HDEL', notes, position)
  redis.call('HDEL', records, position)
  redis.call('HINCRBY', totals, 'review_examples', -1)
  redis.call('HINCRBY', totals, 'review_bytes', -#record)
  if redis.call('HLEN', notes) == 0 then redis.call('SREM', labels, label) end
  return cjson.decode(note), record
end

-- Take images out of what is kept of how a version judged: those for which `gone`, given the id and the row of the class,
-- says so. Call `found` with the id of each.
local function forget_judged(judgements, version, gone, found)
  local kept = cjson.decode(redis.call('HGET', judgements, version))
  local ids, rows, predicted, probability = {}, {}, {}, {}
  for i, id in ipairs(kept.ids) do
    if gone(id, kept.rows[i]) then
      found(id)
    else
      local to = #ids + 1
      ids[to], rows[to], predicted[to], probability[to] = id, kept.rows[i], kept.predicted[i], kept.probability[i]
    end
  end
  if #ids == #kept.ids then return end
  kept.ids, kept.rows, kept.predicted, kept.probability = ids, rows, predicted, probability
  redis.call('HSET', judgements, version, cjson.encode(kept))
end

-- Remove an image from the inbox; return whether it was there.
-- KEYS[first] and the six after it are the inbox: items, images, features, marks, open, decisions, decided.
local function leave_inbox(id, first)
  for i = first + 1, first + 3 do redis.call('HDEL', KEYS[i], id) end
  redis.call('ZREM', KEYS[first + 4], id)
  redis.call('HDEL', KEYS[first + 5], id)
  redis.call('ZREM', KEYS[first + 6], id)
  return redis.call('HDEL', KEYS[first], id) > 0
end
