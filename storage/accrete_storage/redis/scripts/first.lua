-- KEYS: pending streams. Returns for each its length and its first position, without reading records to the caller.
local found = {}
for i, key in ipairs(KEYS) do
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  found[i] = {redis.call('XLEN', key), first and first[1] or ''}
end
return found
