-- Remove a label and all that is kept of it.
-- KEYS: state, what is counted of pending (6), kept, exemplar_bytes, generations, forgotten, quarantine, events, then the
-- label's pending stream, exemplars, hold-out, and notes and records in review, review_labels, features, versions,
-- judgements, the inbox (7), then prototypes of each version. ARGV: label, event, 1 if a version knows the label.
-- Returns {pending, exemplars, hold-out} removed, or {} when nothing of it is known.
local INBOX = 23
local label = ARGV[1]
local pending, exemplars, holdout = KEYS[14], KEYS[15], KEYS[16]
local notes, records, review_labels = KEYS[17], KEYS[18], KEYS[19]
local features = KEYS[20]
local counts = {redis.call('XLEN', pending), redis.call('LLEN', exemplars), redis.call('LLEN', holdout)}
local reviewed = redis.call('HKEYS', notes)
if ARGV[3] ~= '1' and counts[1] + counts[2] + counts[3] + #reviewed == 0 then return {} end
redis.call('DEL', exemplars, holdout, features)
-- Emptied, not removed: it keeps its last position, so that the next is greater even when the clock was set back. A
-- smaller one would be taken for learned by versions that had the label before.
redis.call('XTRIM', pending, 'MAXLEN', 0)
recount_pending(pending, label, 2, counts[1])
for _, position in ipairs(reviewed) do
  local note, record = leave_review(label, position, KEYS[3], review_labels, notes, records)
  add_to(KEYS[7], note.principal, -#record)
end
local versions, judgements = KEYS[21], KEYS[22]
for _, version in ipairs(redis.call('HKEYS', judgements)) do
  local named, record = {}, redis.call('HGET', versions, version)
  for row, name in ipairs(record and cjson.decode(record).labels or {}) do
    if name == label then named[row - 1] = true end
  end
  forget_judged(judgements, version, function(_, row) return named[row] end, function() end)
end
local decisions = redis.call('HGETALL', KEYS[INBOX + 5])
for i = 1, #decisions, 2 do
  if cjson.decode(decisions[i + 1]).label == label then leave_inbox(decisions[i], INBOX) end
end
for i = INBOX + 7, #KEYS do redis.call('HDEL', KEYS[i], label) end
redis.call('SREM', KEYS[8], label)
redis.call('HDEL', KEYS[9], label)
redis.call('HDEL', KEYS[12], label)
-- Ids seen under the old generation count as unseen, so that the label can be taught again.
redis.call('HINCRBY', KEYS[10], label, 1)
redis.call('HSET', KEYS[11], label, redis.call('HINCRBY', KEYS[1], 'revision', 1))
event(KEYS[13], 'forgotten', ARGV[2])
counts[1] = counts[1] + #reviewed
return counts
