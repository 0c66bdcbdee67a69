-- Remove pending examples of one label. A step that has read them does not commit, since the revision grows.
-- KEYS: state, what is counted of pending (6), the label's stream, then the seen key of each example.
-- ARGV: label, then the position of each example.
-- Returns how many were there.
local stream, removed = KEYS[8], 0
for i = 2, #ARGV do
  if take_pending(stream, ARGV[1], ARGV[i], 2) then
    removed = removed + 1
    redis.call('DEL', KEYS[7 + i])
  end
end
if removed > 0 then redis.call('HINCRBY', KEYS[1], 'revision', 1) end
return removed
