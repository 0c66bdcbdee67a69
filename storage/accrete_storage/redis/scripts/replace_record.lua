-- KEYS: state, versions. ARGV: version, old record, new record. Never touches the active version.
if redis.call('HGET', KEYS[1], 'active') == ARGV[1] then return 'ACTIVE' end
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 'CHANGED' end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 'OK'
