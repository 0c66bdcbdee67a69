-- End the review of examples of one label, which are pending again or removed.
-- KEYS: what is counted of pending (6), review_labels, the label's stream, its notes, its records, then the seen key of each
-- example. ARGV: label, '1' to release and '0' to drop them, then the position of each example.
-- Returns how many there were.
local label, release, ended = ARGV[1], ARGV[2] == '1', 0
local owned = owners(KEYS[5], label)
for i = 3, #ARGV do
  local position, seen = ARGV[i], KEYS[8 + i]
  local note, record = leave_review(label, position, KEYS[2], KEYS[7], KEYS[9], KEYS[10])
  if note then
    ended = ended + 1
    if release then
      local at = redis.call('XADD', KEYS[8], '*', 'e', record, 'h', note.holdout, 'p', note.principal, 'r', '1')
      reseat(seen, 'r' .. position, at)
      owned[note.principal] = (owned[note.principal] or 0) + #record
      redis.call('HINCRBY', KEYS[2], 'examples', 1)
      redis.call('HINCRBY', KEYS[2], 'bytes', #record)
      redis.call('HINCRBY', KEYS[3], label, #record)
      if note.holdout == '1' then redis.call('HINCRBY', KEYS[4], label, 1) end
    else
      add_to(KEYS[6], note.principal, -#record)
      redis.call('DEL', seen)
    end
  end
end
if release and ended > 0 then
  redis.call('SADD', KEYS[1], label)
  redis.call('HSET', KEYS[5], label, cjson.encode(owned))
end
return ended
