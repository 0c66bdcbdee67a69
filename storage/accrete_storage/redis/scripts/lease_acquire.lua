-- Take the lease under a new epoch.
-- KEYS: lease, state. ARGV: owner, ttl in ms. Returns the epoch, or 0 while another has the lease.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1], 'PX', ARGV[2])
return epoch
