-- Move pending examples of one label into review. They count for their principal as before. The revision grows, so that a
-- prototype of which they were part is made anew.
-- KEYS: state, what is counted of pending (6), review_labels, the label's stream, its notes, its records, then the seen key
-- of each example. ARGV: epoch, label, then for each example its position and note (JSON).
-- Returns how many there were, or -1 when another learner has the lease.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return -1 end
local label, stream = ARGV[2], KEYS[9]
local moved, bytes = 0, 0
for i = 3, #ARGV, 2 do
  local position = ARGV[i]
  local entry = take_pending(stream, label, position, 2)
  if entry then
    local record, note = entry[2][2], cjson.decode(ARGV[i + 1])
    note.holdout, note.principal, note.size = entry[2][4], entry[2][6] or '', #record
    redis.call('HSET', KEYS[10], position, cjson.encode(note))
    redis.call('HSET', KEYS[11], position, record)
    reseat(KEYS[11 + (i - 1) / 2], position, 'r' .. position)
    add_to(KEYS[7], note.principal, #record)
    moved, bytes = moved + 1, bytes + #record
  end
end
if moved == 0 then return 0 end
redis.call('HINCRBY', KEYS[3], 'review_examples', moved)
redis.call('HINCRBY', KEYS[3], 'review_bytes', bytes)
redis.call('SADD', KEYS[8], label)
redis.call('HINCRBY', KEYS[1], 'revision', 1)
return moved
