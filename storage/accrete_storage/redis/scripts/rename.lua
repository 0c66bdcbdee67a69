-- Give a class another label, or make it part of another class: every key, count and record that names it, at once.
-- KEYS: state, what is counted of pending (6), versions, events, kept, exemplar_bytes, quarantine, generations, forgotten,
--   renamed, review_labels, what the seen keys begin with, inbox_items, inbox_decisions, then pending, exemplars, holdout,
--   features, review_notes and review_records of the label and the same of the new one, then prototypes of each version
--   that may be live.
-- ARGV[1]: JSON {label, new_label, merge, alive (the label is a class, not only one that was forgotten), revision, stored (of
--   each of both, whether anything is kept), count of records, event, unseen_below: {before, after}}; then for each record
--   its version, the SHA-1 of what it is, and what it becomes.
-- Returns {revision, examples of the label}, or nothing where the plan was made of what is not so any more.
local FIRST_CLASS, PER_CLASS, PAGE = 20, 6, 100
local plan = cjson.decode(ARGV[1])
local state, versions, kept, exemplar_bytes, quarantine = KEYS[1], KEYS[8], KEYS[10], KEYS[11], KEYS[12]
local labels, pending_bytes, pending_holdout, pending_owners = KEYS[2], KEYS[4], KEYS[5], KEYS[6]
local generations, forgotten, renamed, review_labels, seen_prefix = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local from, to = plan.label, plan.new_label
local old, new = {}, {}
for i, name in ipairs({'pending', 'exemplars', 'holdout', 'features', 'notes', 'records'}) do
  old[name], new[name] = KEYS[FIRST_CLASS + i - 1], KEYS[FIRST_CLASS + PER_CLASS + i - 1]
end

local function is_stored(label)
  return redis.call('SISMEMBER', labels, label) + redis.call('SISMEMBER', kept, label)
    + redis.call('SISMEMBER', review_labels, label) + redis.call('HEXISTS', quarantine, label) > 0
end

if number(state, 'revision') ~= plan.revision then return false end
if is_stored(from) ~= plan.stored[1] or is_stored(to) ~= plan.stored[2] then return false end
if (redis.call('HGET', state, 'unseen_below') or '') ~= plan.unseen_below[1] then return false end
if redis.call('HLEN', versions) ~= plan.count then return false end
for i = 2, #ARGV, 3 do
  local record = redis.call('HGET', versions, ARGV[i])
  if not record or redis.sha1hex(record) ~= ARGV[i + 1] then return false end
end

local function move_field(key)
  local value = redis.call('HGET', key, from)
  if value then
    redis.call('HDEL', key, from)
    redis.call('HSET', key, to, value)
  end
end

local function add_field(key)
  local value = redis.call('HGET', key, from)
  if value then
    redis.call('HDEL', key, from)
    add_to(key, to, tonumber(value))
  end
end

local function move_member(key)
  if redis.call('SREM', key, from) == 1 then redis.call('SADD', key, to) end
end

local function move_key(source, target)
  if redis.call('EXISTS', source) == 1 then redis.call('RENAME', source, target) else redis.call('DEL', target) end
end

-- Return the id of a packed example, its first field, without unpacking the image behind it.
local function id_of(record)
  local kind = string.byte(record, 2)
  if kind >= 0xa0 and kind <= 0xbf then return string.sub(record, 3, 2 + kind - 0xa0) end
  if kind == 0xd9 then return string.sub(record, 4, 3 + string.byte(record, 3)) end
  return string.sub(record, 5, 4 + 256 * string.byte(record, 3) + string.byte(record, 4))
end

-- Let the seen key of an example that is not learned yet name its new class and position.
local function reseat_as(id, position, generation)
  local seen = seen_prefix .. id
  local digest = string.match(redis.call('GET', seen) or '', '^(%x+)|')
  if digest then
    redis.call('SET', seen, digest .. '|' .. position .. '|' .. generation .. '|' .. to, 'KEEPTTL')
  end
end

local function parts(position)
  local milliseconds, sequence = string.match(position, '^(%d+)-(%d+)$')
  return tonumber(milliseconds), tonumber(sequence)
end

local function is_after(position, other)
  local milliseconds, sequence = parts(position)
  local others, other_sequence = parts(other)
  return milliseconds > others or (milliseconds == others and sequence > other_sequence)
end

local function next_position(position)
  local milliseconds, sequence = string.match(position, '^(%d+)-(%d+)$')
  return milliseconds .. '-' .. (tonumber(sequence) + 1)
end

-- Append the label's pending examples to the other's, a page at a time, so that none is there twice for long. They keep
-- their position, and so their age, where it is after all that the other's stream ever had.
local function merge_pending(generation)
  local last = '0-0'
  if redis.call('EXISTS', new.pending) == 1 then
    local info = redis.call('XINFO', 'STREAM', new.pending)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then last = info[i + 1] end
    end
  end
  repeat
    local page = redis.call('XRANGE', old.pending, '-', '+', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      last = is_after(entry[1], last) and entry[1] or next_position(last)
      redis.call('XADD', new.pending, last, unpack(entry[2]))
      redis.call('XDEL', old.pending, entry[1])
      reseat_as(id_of(entry[2][2]), last, generation)
    end
  until #page < PAGE
  redis.call('DEL', old.pending)
end

local function merge_review(generation)
  local notes = redis.call('HGETALL', old.notes)
  for i = 1, #notes, 2 do
    local position = notes[i]
    while redis.call('HEXISTS', new.notes, position) == 1 do position = next_position(position) end
    redis.call('HSET', new.notes, position, notes[i + 1])
    redis.call('HSET', new.records, position, redis.call('HGET', old.records, notes[i]))
    reseat_as(cjson.decode(notes[i + 1]).id, 'r' .. position, generation)
  end
  redis.call('DEL', old.notes, old.records)
end

-- By turns, so that a trim leaves the best of both.
local function merge_exemplars()
  local mine, others = redis.call('LRANGE', old.exemplars, 0, -1), redis.call('LRANGE', new.exemplars, 0, -1)
  redis.call('DEL', old.exemplars, new.exemplars)
  for i = 1, math.max(#mine, #others) do
    if others[i] then redis.call('RPUSH', new.exemplars, others[i]) end
    if mine[i] then redis.call('RPUSH', new.exemplars, mine[i]) end
  end
end

local function merge_holdout()
  for _, record in ipairs(redis.call('LRANGE', old.holdout, 0, -1)) do redis.call('RPUSH', new.holdout, record) end
  redis.call('DEL', old.holdout)
end

-- The fewer go to the more, of which there may be a hundred thousand, in pieces, since Lua's stack bounds a call.
local function merge_features()
  local source, target = old.features, new.features
  if redis.call('HLEN', source) > redis.call('HLEN', target) then source, target = target, source end
  local cursor = '0'
  repeat
    local answer = redis.call('HSCAN', source, cursor, 'COUNT', PAGE)
    cursor = answer[1]
    for first = 1, #answer[2], 1000 do
      redis.call('HSET', target, unpack(answer[2], first, math.min(first + 999, #answer[2])))
    end
  until cursor == '0'
  redis.call('DEL', source)
  if target ~= new.features and redis.call('EXISTS', target) == 1 then redis.call('RENAME', target, new.features) end
end

local function merge_owners()
  local mine, others = owners(pending_owners, from), owners(pending_owners, to)
  if next(mine) then
    for principal, size in pairs(mine) do others[principal] = (others[principal] or 0) + size end
    redis.call('HSET', pending_owners, to, cjson.encode(others))
  end
  redis.call('HDEL', pending_owners, from)
end

-- One that waits for approval needs none any more when the other did not. Steps that failed with one of both say nothing
-- of both together, but the other's entry stays until it is tried again.
local function merge_quarantine()
  local mine, others = redis.call('HGET', quarantine, from), redis.call('HGET', quarantine, to)
  local function awaits(entry) return entry and cjson.decode(entry).awaiting == true end
  if awaits(others) and not awaits(mine) then redis.call('HDEL', quarantine, to) end
  redis.call('HDEL', quarantine, from)
end

-- Call `change` with each value of a hash, decoded, and write those anew for which it says so.
local function rewrite(key, change)
  local cursor = '0'
  repeat
    local answer = redis.call('HSCAN', key, cursor, 'COUNT', PAGE)
    cursor = answer[1]
    for i = 1, #answer[2], 2 do
      local value = cjson.decode(answer[2][i + 1])
      if change(value) then redis.call('HSET', key, answer[2][i], cjson.encode(value)) end
    end
  until cursor == '0'
end

-- What people said about images in the inbox, and what was answered about them: of two labels that are one now there is
-- one, which is as probable as both.
local function relabel_inbox(items, decisions)
  rewrite(decisions, function(decision)
    if decision.label ~= from then return false end
    decision.label = to
    return true
  end)
  rewrite(items, function(item)
    local found, by_label, changed = {}, {}, false
    for _, ranked in ipairs(item.labels) do
      if ranked.label == from then ranked.label, changed = to, true end
      local same = by_label[ranked.label]
      if same then
        same.probability = same.probability + ranked.probability
        same.provisional = same.provisional and ranked.provisional
      else
        found[#found + 1], by_label[ranked.label] = ranked, ranked
      end
    end
    table.sort(found, function(one, other) return one.probability > other.probability end)
    item.labels = found
    return changed
  end)
end

local examples = redis.call('XLEN', old.pending) + redis.call('HLEN', old.notes)
  + math.max(redis.call('HLEN', old.features), redis.call('LLEN', old.exemplars) + redis.call('LLEN', old.holdout))
local generation, new_generation = redis.call('HGET', generations, from) or '0', redis.call('HGET', generations, to) or '0'

if plan.merge then
  merge_pending(new_generation)
  merge_review(new_generation)
  merge_exemplars()
  merge_holdout()
  merge_features()
  merge_owners()
  merge_quarantine()
  for _, key in ipairs({pending_bytes, pending_holdout, exemplar_bytes}) do add_field(key) end
  for i = FIRST_CLASS + 2 * PER_CLASS, #KEYS do redis.call('HDEL', KEYS[i], from) end
else
  for name, key in pairs(old) do move_key(key, new[name]) end
  for _, key in ipairs({pending_bytes, pending_holdout, pending_owners, exemplar_bytes, quarantine}) do move_field(key) end
  for i = FIRST_CLASS + 2 * PER_CLASS, #KEYS do move_field(KEYS[i]) end
end
for _, key in ipairs({labels, kept, review_labels}) do move_member(key) end
relabel_inbox(KEYS[18], KEYS[19])
if plan.unseen_below[1] ~= '' then redis.call('HSET', state, 'unseen_below', plan.unseen_below[2]) end
for i = 2, #ARGV, 3 do redis.call('HSET', versions, ARGV[i], ARGV[i + 2]) end

local revision = redis.call('HINCRBY', state, 'revision', 1)
redis.call('HSET', state, 'renamed', revision)
-- In records that have both, rows of what was forgotten have no label by now.
redis.call('HDEL', forgotten, to)
if plan.alive then redis.call('HDEL', forgotten, from) else move_field(forgotten) end
redis.call('HINCRBY', generations, from, 1)
local names = revision .. '|' .. new_generation .. '|' .. (plan.merge and '1' or '0') .. '|' .. to
redis.call('HSET', renamed, generation .. '|' .. from, names)
event(KEYS[9], 'renamed', plan.event)
return {revision, examples}
