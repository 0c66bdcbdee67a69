-- Note, or note again, which cluster runs on this prefix.
-- KEYS: cluster. ARGV: the cluster's id, its value ("id place"), ttl in ms. Returns the value that stands there then.
local found = redis.call('GET', KEYS[1])
if found and string.sub(found, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
