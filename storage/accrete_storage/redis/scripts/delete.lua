-- Remove examples wherever they are kept.
-- KEYS: state, what is counted of pending (6), exemplar_bytes, review_labels, judgements, then those that the plan names by
--   number.
-- ARGV[1]: JSON {revision, last_step, pending: {label, stream, position, id, notes, records, whether its seen key says so},
--   lists: {label, list, argument with the record, kind, ids}, features: {id, hash}, seen: {id: key number}}; further ARGV:
--   records.
-- Returns the ids that were removed, or nothing where the plan was made before a commit, a deletion or a release.
local plan = cjson.decode(ARGV[1])
if (redis.call('HGET', KEYS[1], 'revision') or '') ~= plan.revision then return false end
if (redis.call('HGET', KEYS[1], 'last_step') or '') ~= plan.last_step then return false end
for _, one in ipairs(plan.pending) do
  local seen = one[7] and redis.call('GET', KEYS[plan.seen[one[4]]])
  if seen and string.match(seen, '^%x+|r?([^|]+)|') ~= one[3] then return false end
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
local ids = {}
for id, _ in pairs(removed) do
  redis.call('DEL', KEYS[plan.seen[id]])
  ids[#ids + 1] = id
end
if #ids > 0 then redis.call('HINCRBY', KEYS[1], 'revision', 1) end
return ids
