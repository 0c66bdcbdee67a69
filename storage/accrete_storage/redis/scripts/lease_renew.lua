-- Keep the lease for another term, or give it back.
-- KEYS: lease, state. ARGV: epoch, owner, ttl in ms (0 to give it back). Returns 1, or 0 when it is lost.
-- A lease that ran out and that nobody took is still ours, since the epoch has not moved.
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
end
return 1
