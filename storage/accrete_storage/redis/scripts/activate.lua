-- Make a version live and pin it; version 0 unpins, and makes the newest ready one live.
-- KEYS: state, versions, events. ARGV: version.
-- Returns the live version, or {"UNKNOWN"}, or {"UNUSABLE", state}.
local version = ARGV[1]
local pinned = version ~= '0'
if not pinned then
  version = redis.call('HGET', KEYS[1], 'latest') or '0'
else
  local record = redis.call('HGET', KEYS[2], version)
  if not record then return {'UNKNOWN'} end
  local version_state = cjson.decode(record).state
  if version_state ~= 'ready' then return {'UNUSABLE', version_state} end
end
redis.call('HSET', KEYS[1], 'active', version, 'pinned', pinned and '1' or '0')
event(KEYS[3], 'activated', '{"version": ' .. version .. ', "pinned": ' .. tostring(pinned) .. '}')
return tonumber(version)
