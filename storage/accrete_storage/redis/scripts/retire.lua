-- Retire a version, with what is kept of how it judged; never the active version.
-- KEYS: state, versions, judgements. ARGV: version, old record, new record. Returns OK, ACTIVE, CHANGED.
if redis.call('HGET', KEYS[1], 'active') == ARGV[1] then return 'ACTIVE' end
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 'CHANGED' end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[1])
return 'OK'
