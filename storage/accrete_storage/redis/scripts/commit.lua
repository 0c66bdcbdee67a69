-- End a step in one write.
-- KEYS: state, versions, events, quarantine, what is counted of pending (6), kept, exemplar_bytes, then those that the plan
-- names by number.
-- ARGV[1]: the plan (JSON), with epoch, revision, step_id, version, record, activate, event, activated, quota,
--   consumed: {label, stream, first position that stays}, moves: {label, from, to, length, kind}, trims: {label, exemplars},
--   drops: {label, exemplars, holdout, features}, features: {label, from, to, length}, backbone (or '') with
--   unseen_below (JSON), stale: features of another backbone, judgements: key of what versions answered, 0 for nothing.
-- ARGV[2]: what this version answered.
-- Returns OK, DONE (this step was committed before), FENCED, CHANGED.
local plan = cjson.decode(ARGV[1])
local state, versions, events, quarantine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kept, exemplar_bytes = KEYS[11], KEYS[12]

if redis.call('HGET', state, 'last_step') == plan.step_id then return 'DONE' end
if number(state, 'epoch') ~= plan.epoch then return 'FENCED' end
if number(state, 'revision') ~= plan.revision then return 'CHANGED' end
for _, move in ipairs(plan.moves) do
  if redis.call('LLEN', KEYS[move[2]]) ~= move[4] then return 'CHANGED' end
end
for _, one in ipairs(plan.features) do
  if redis.call('HLEN', KEYS[one[2]]) ~= one[4] then return 'CHANGED' end
end

for _, key in ipairs(plan.stale) do redis.call('DEL', KEYS[key]) end
if plan.backbone ~= '' then redis.call('HSET', state, 'features', plan.backbone, 'unseen_below', plan.unseen_below) end
for _, one in ipairs(plan.features) do
  local label, from, to = one[1], KEYS[one[2]], KEYS[one[3]]
  if redis.call('EXISTS', to) == 0 then
    redis.call('RENAME', from, to)
    redis.call('PERSIST', to)
  else
    local pairs_of = redis.call('HGETALL', from)
    for first = 1, #pairs_of, 2 do redis.call('HSET', to, pairs_of[first], pairs_of[first + 1]) end
    redis.call('DEL', from)
  end
  redis.call('SADD', kept, label)
end
for _, move in ipairs(plan.moves) do
  local label, from, to = move[1], KEYS[move[2]], KEYS[move[3]]
  if move[4] == 0 then
    redis.call('DEL', to)
  else
    redis.call('RENAME', from, to)
    redis.call('PERSIST', to)
    redis.call('SADD', kept, label)
  end
  if move[5] == 'exemplars' then recount_exemplars(to, label, exemplar_bytes) end
end
for _, trim in ipairs(plan.trims) do
  local list = KEYS[trim[2]]
  if redis.call('LLEN', list) > plan.quota then
    if plan.quota == 0 then redis.call('DEL', list) else redis.call('LTRIM', list, 0, plan.quota - 1) end
    recount_exemplars(list, trim[1], exemplar_bytes)
  end
end
for _, drop in ipairs(plan.drops) do
  redis.call('DEL', KEYS[drop[2]], KEYS[drop[3]], KEYS[drop[4]])
  redis.call('SREM', kept, drop[1])
  redis.call('HDEL', exemplar_bytes, drop[1])
end
for _, one in ipairs(plan.consumed) do
  local before = redis.call('XLEN', KEYS[one[2]])
  redis.call('XTRIM', KEYS[one[2]], 'MINID', one[3])
  recount_pending(KEYS[one[2]], one[1], 5, before)
  redis.call('HDEL', quarantine, one[1])
end
redis.call('HSET', versions, plan.version, plan.record)
if plan.judgements > 0 then redis.call('HSET', KEYS[plan.judgements], plan.version, ARGV[2]) end
redis.call('HSET', state, 'last_step', plan.step_id, 'latest', plan.version)
event(events, 'committed', plan.event)
if plan.activate and redis.call('HGET', state, 'pinned') ~= '1' then
  redis.call('HSET', state, 'active', plan.version)
  event(events, 'activated', plan.activated)
end
return 'OK'
