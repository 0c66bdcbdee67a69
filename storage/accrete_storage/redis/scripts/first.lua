-- Return the length and the first position of each stream, without reading records to the caller.
-- KEYS: pending streams.
local found = {}
for i, key in ipairs(KEYS) do
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  found[i] = {redis.call('XLEN', key), first and first[1] or ''}
end
return found
