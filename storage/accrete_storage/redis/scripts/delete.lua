-- Remove examples wherever they are kept.
-- KEYS: state, what is counted of pending (6), exemplar_bytes, review_labels, judgements, the inbox (7), then those that
--   the plan names by number.
-- ARGV[1]: JSON {revision, last_step, pending: {label, stream, position, id, notes, records, whether its seen key says so},
--   lists: {label, list, argument with the record, kind, ids}, features: {id, hash}, seen: {id: key number},
--   reopen: {id: decision}}; further ARGV: records. What is to be reopened stays in the inbox, and is open again.
-- Returns the ids that were removed, or nothing where the plan was made before a commit, a deletion, a release or another
-- decision.
local INBOX = 11
local plan = cjson.decode(ARGV[1])
if (redis.call('HGET', KEYS[1], 'revision') or '') ~= plan.revision then return false end
if (redis.call('HGET', KEYS[1], 'last_step') or '') ~= plan.last_step then return false end
for _, one in ipairs(plan.pending) do
  local seen = one[7] and redis.call('GET', KEYS[plan.seen[one[4]]])
  if seen and string.match(seen, '^%x+|r?([^|]+)|') ~= one[3] then return false end
end
for id, decision in pairs(plan.reopen) do
  if redis.call('HGET', KEYS[INBOX + 5], id) ~= decision then return false end
end

local removed = {}
for _, one in ipairs(plan.pending) do
  local label, stream, position, id = one[1], KEYS[one[2]], one[3], one[4]
  if take_pending(stream, label, position, 2) then removed[id] = true end
  local note, record = leave_review(label, position, KEYS[3], KEYS[9], KEYS[one[5]], KEYS[one[6]])
  if note then
    add_to(KEYS[7], note.principal, -#record)
    removed[id] = true
  end
end
for _, one in ipairs(plan.lists) do
  local label, list, record, kind, named = one[1], KEYS[one[2]], ARGV[one[3]], one[4], one[5]
  if redis.call('LREM', list, 0, record) > 0 then
    if kind == 'exemplars' then recount_exemplars(list, label, KEYS[8]) end
    for _, id in ipairs(named) do removed[id] = true end
  end
end
for _, one in ipairs(plan.features) do
  if redis.call('HDEL', KEYS[one[2]], one[1]) > 0 then removed[one[1]] = true end
end
for _, version in ipairs(redis.call('HKEYS', KEYS[10])) do
  forget_judged(KEYS[10], version, function(id) return plan.seen[id] end, function(id) removed[id] = true end)
end
if next(removed) then redis.call('HINCRBY', KEYS[1], 'revision', 1) end
for id, _ in pairs(plan.seen) do
  if plan.reopen[id] then
    redis.call('HDEL', KEYS[INBOX + 5], id)
    redis.call('ZREM', KEYS[INBOX + 6], id)
    redis.call('ZADD', KEYS[INBOX + 4], cjson.decode(redis.call('HGET', KEYS[INBOX], id)).doubt, id)
    -- Of what was learned and is not kept nothing is left but this, which would keep another label from being given.
    redis.call('DEL', KEYS[plan.seen[id]])
  elseif leave_inbox(id, INBOX) then
    removed[id] = true
  end
end
local ids = {}
for id, _ in pairs(removed) do
  redis.call('DEL', KEYS[plan.seen[id]])
  ids[#ids + 1] = id
end
return ids
