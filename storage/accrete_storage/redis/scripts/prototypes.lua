-- Set prototypes under a version, unless something was deleted, forgotten or renamed since they were computed.
-- KEYS: state, prototypes of the version. ARGV: the revision or '' for any, ms until they expire, then each field and value.
-- Returns 1, or 0 when the revision is another.
if ARGV[1] ~= '' and number(KEYS[1], 'revision') ~= tonumber(ARGV[1]) then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
