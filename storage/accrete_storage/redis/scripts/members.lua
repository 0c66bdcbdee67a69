-- Tell of a member, or of none, and return all that are left. Time is the store's own, so no other clock matters.
-- KEYS: members. ARGV: id or '', milliseconds until it expires (0 removes it), what of it is worth a new revision, and
-- the member (JSON).
-- Each field but 'revision' is "until|worth|JSON" under a member's id. Returns the revision, then the JSON of each member.
-- The revision grows when a member comes, goes or changes in what it is worth; by the clock, so that it also grows past
-- that of a store that was emptied.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, entries, changed, before = {}, redis.call('HGETALL', KEYS[1]), false, nil
local revision = 0
for i = 1, #entries, 2 do
  local id, value = entries[i], entries[i + 1]
  if id == 'revision' then
    revision = tonumber(value)
  else
    local till, worth, json = string.match(value, '^(%d+)|([^|]*)|(.*)$')
    if id == ARGV[1] then
      before = worth
    elseif tonumber(till) <= now then
      redis.call('HDEL', KEYS[1], id)
      changed = true
    else
      found[#found + 1] = json
    end
  end
end
if ARGV[1] ~= '' then
  if ARGV[2] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[1])
    changed = changed or before ~= nil
  else
    local till = string.format('%.0f', now + tonumber(ARGV[2]))
    redis.call('HSET', KEYS[1], ARGV[1], till .. '|' .. ARGV[3] .. '|' .. ARGV[4])
    changed = changed or before ~= ARGV[3]
    found[#found + 1] = ARGV[4]
  end
end
if changed then
  revision = math.max(revision + 1, now)
  redis.call('HSET', KEYS[1], 'revision', string.format('%.0f', revision))
end
return {string.format('%.0f', revision), found}
