-- End a label's quarantine, if its entry is still the one that was read.
-- KEYS: quarantine, the label's pending stream. ARGV: label, the entry, '1' to end it only if nothing is pending any more.
-- Returns how many examples are pending, or -1 when the entry stays, or is another by now.
local pending = redis.call('XLEN', KEYS[2])
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] or (ARGV[3] == '1' and pending > 0) then return -1 end
redis.call('HDEL', KEYS[1], ARGV[1])
return pending
