-- Give a version up. If it is the newest, the ready one before it takes its place, and a step is asked for.
-- KEYS: state, versions, judgements. ARGV: version, its record, the new record.
-- Returns CHANGED, or the newest ready version, 0 where none is left.
local state, versions, version = KEYS[1], KEYS[2], ARGV[1]
if redis.call('HGET', versions, version) ~= ARGV[2] then return 'CHANGED' end
redis.call('HSET', versions, version, ARGV[3])
redis.call('HDEL', KEYS[3], version)
if redis.call('HGET', state, 'latest') ~= version then return number(state, 'latest') end
local latest, records = 0, redis.call('HGETALL', versions)
for i = 1, #records, 2 do
  local other = tonumber(records[i])
  if other > latest and cjson.decode(records[i + 1]).state == 'ready' then latest = other end
end
if latest == 0 then redis.call('HDEL', state, 'latest') else redis.call('HSET', state, 'latest', latest) end
-- What is pinned would never be followed by anything.
if redis.call('HGET', state, 'active') == version then redis.call('HSET', state, 'pinned', '0') end
redis.call('HSET', state, 'step_request', '1')
return latest
