-- Put pending labels into quarantine after a failed (no step id) or rejected step.
-- KEYS: state, versions, events, quarantine. ARGV: epoch, step id or '', version (0 without a record), record, kind of
-- event, its body, then each label and its entry (JSON).
-- Returns OK, DONE (the same step was recorded before), FENCED.
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'last_step') == ARGV[2] then return 'DONE' end
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
for i = 7, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
if ARGV[3] ~= '0' then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'last_step', ARGV[2]) end
event(KEYS[3], ARGV[5], ARGV[6])
return 'OK'
