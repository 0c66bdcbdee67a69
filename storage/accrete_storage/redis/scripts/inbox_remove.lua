-- Remove images from the inbox. KEYS: the inbox (7). ARGV: ids. Returns how many were there.
local removed = 0
for _, id in ipairs(ARGV) do
  if leave_inbox(id, 1) then removed = removed + 1 end
end
return removed
