-- Reserve a number for the files of one learner. What an earlier one left half done is under a number that no later one
-- uses, so that it may be finished or removed at any time.
-- KEYS: state, versions. ARGV: epoch, '1' to reserve a number, '0' to learn the greatest in use.
-- Returns the number, or -1 when another learner has the lease.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return -1 end
local recorded = 0
for _, version in ipairs(redis.call('HKEYS', KEYS[2])) do recorded = math.max(recorded, tonumber(version)) end
local reserved = number(KEYS[1], 'reserved')
if ARGV[2] == '0' then return math.max(recorded, reserved) end
local next = recorded + 1
if redis.call('HGET', KEYS[1], 'reserved_by') ~= ARGV[1] then next = math.max(next, reserved + 1) end
redis.call('HSET', KEYS[1], 'reserved', next, 'reserved_by', ARGV[1])
return next
