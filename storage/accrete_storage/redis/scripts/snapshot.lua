-- Read everything under a prefix at one moment.
-- KEYS: versions. ARGV: the pattern that all keys match.
-- Returns the versions' records, then name, milliseconds to live (-1 for ever) and DUMP of each key, flat.
local found, cursor, seen = {}, '0', {}
repeat
  local answer = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = answer[1]
  for _, key in ipairs(answer[2]) do
    if not seen[key] then
      seen[key] = true
      local value = redis.call('DUMP', key)
      if value then
        found[#found + 1] = key
        found[#found + 1] = redis.call('PTTL', key)
        found[#found + 1] = value
      end
    end
  end
until cursor == '0'
return {redis.call('HVALS', KEYS[1]), found}
