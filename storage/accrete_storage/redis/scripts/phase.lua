-- Record the learner's phase, with an event.
-- KEYS: state, events. ARGV: epoch, phase, reason, event. Returns 1, or 0 when another learner has taken over.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'phase', ARGV[2], 'reason', ARGV[3])
event(KEYS[2], 'phase', ARGV[4])
return 1
