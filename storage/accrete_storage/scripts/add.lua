-- Stores a batch of examples, or, where it would not fit into the budget, none of it.
-- KEYS: labels, generations, totals, pending_bytes, pending_holdout, then for each example: seen, pending stream.
-- ARGV: max examples, max bytes, days remembered in ms, then for each example: label, digest, hold-out flag, record.
-- Returns "S" (stored), "D" (duplicate) or "C" (same id, other content) for each, or {"BUDGET", which}.
local FIRST_KEY, FIRST_ARG, ARGS = 5, 3, 4
local count = (#KEYS - FIRST_KEY) / 2
local outcomes, batch, new_count, new_bytes = {}, {}, 0, 0

for i = 1, count do
  local seen_key = KEYS[FIRST_KEY + 2 * i - 1]
  local at = FIRST_ARG + ARGS * (i - 1)
  local digest = ARGV[at + 2]
  local known = batch[seen_key]
  if not known then
    local seen = redis.call('GET', seen_key)
    if seen then
      local seen_digest, generation, label = string.match(seen, '^(%x+)|[%d-]+|(%d+)|(.*)$')
      if number(KEYS[2], label) == tonumber(generation) then known = seen_digest end
    end
  end
  if known == nil then
    batch[seen_key] = digest
    outcomes[i] = 'S'
    new_count = new_count + 1
    new_bytes = new_bytes + #ARGV[at + 4]
  elseif known == digest then
    outcomes[i] = 'D'
  else
    outcomes[i] = 'C'
  end
end

if new_count > 0 then
  if number(KEYS[3], 'examples') + new_count > tonumber(ARGV[1]) then return {'BUDGET', 'examples'} end
  if number(KEYS[3], 'bytes') + new_bytes > tonumber(ARGV[2]) then return {'BUDGET', 'bytes'} end
end

for i = 1, count do
  if outcomes[i] == 'S' then
    local at = FIRST_ARG + ARGS * (i - 1)
    local label, digest, holdout, record = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local position = redis.call('XADD', KEYS[FIRST_KEY + 2 * i], '*', 'e', record, 'h', holdout)
    local value = digest .. '|' .. position .. '|' .. (redis.call('HGET', KEYS[2], label) or '0') .. '|' .. label
    redis.call('SET', KEYS[FIRST_KEY + 2 * i - 1], value, 'PX', ARGV[3])
    redis.call('SADD', KEYS[1], label)
    redis.call('HINCRBY', KEYS[4], label, #record)
    if holdout == '1' then redis.call('HINCRBY', KEYS[5], label, 1) end
  end
end
redis.call('HINCRBY', KEYS[3], 'examples', new_count)
redis.call('HINCRBY', KEYS[3], 'bytes', new_bytes)
return outcomes
