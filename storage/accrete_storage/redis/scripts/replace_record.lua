-- Replace a version's record; never that of the active version.
-- KEYS: state, versions. ARGV: version, old record, new record. Returns OK, ACTIVE, CHANGED.
if redis.call('HGET', KEYS[1], 'active') == ARGV[1] then return 'ACTIVE' end
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 'CHANGED' end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 'OK'
