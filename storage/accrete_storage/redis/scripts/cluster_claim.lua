-- Note, or note again, which cluster runs on this prefix.
-- KEYS: cluster, state. ARGV: the cluster's id, its value ("id place"), ttl in ms, epoch of its controller or ''.
-- Returns the value that stands there then, or '' when the epoch is over.
local found = redis.call('GET', KEYS[1])
if found and string.sub(found, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return found end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[2], 'controller') ~= ARGV[4] then return '' end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
