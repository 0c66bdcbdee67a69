-- Put pending labels into quarantine after a failed (no step id) or rejected step. A label of which nothing is pending any
-- more was forgotten or renamed meanwhile, and is left out.
-- KEYS: state, versions, events, quarantine, labels with pending examples. ARGV: epoch, step id or '', version (0 without a
-- record), record, revision that the step's inputs are of, kind of event, its body, then each label and its entry (JSON).
-- Returns OK, DONE (the same step was recorded before), FENCED, CHANGED (a class was renamed since the inputs were read).
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'last_step') == ARGV[2] then return 'DONE' end
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
if ARGV[3] ~= '0' and number(KEYS[1], 'renamed') > tonumber(ARGV[5]) then return 'CHANGED' end
for i = 8, #ARGV, 2 do
  if redis.call('SISMEMBER', KEYS[5], ARGV[i]) == 1 then redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
end
if ARGV[3] ~= '0' then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'last_step', ARGV[2]) end
event(KEYS[3], ARGV[6], ARGV[7])
return 'OK'
