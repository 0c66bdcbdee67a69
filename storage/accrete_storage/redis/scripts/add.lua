-- Store a batch of one principal's examples, or none of it where it would not fit into the limits or the quotas.
-- KEYS: what is counted of pending (6), generations, state, versions, forgotten, kept, the principal's windows (examples,
-- labels), quarantine, renamed, then the pending stream of each label, then the seen key of each example, then the seen key
-- that an earlier release would have given it, then those that it would have had under former labels of its class.
-- ARGV: most examples, most bytes, days remembered in ms, principal, and its quotas (0 for none), which are examples per
-- minute, new labels per day, and pending bytes; the quarantine entry (JSON) of labels not known before, or ''; the revision
-- of the last renaming that the former labels are of; the number of examples, and of labels, and the labels; then for each
-- example its hold-out flag (one digit) and label's number, its digest, its record, its digest by an earlier release; then
-- for each former seen key the example's number and its digest.
-- Returns "S" (stored), "D" (duplicate), "E" (duplicate, of an earlier release), the number of a former seen key (duplicate
-- under that), or "C" (same id, other content) for each; or {"BUDGET", which}; or {"QUOTA", which, ms until there is room, 0
-- where that much at once never fits}; or {"RENAMED"}.
local FIRST_KEY, FIRST_ARG, ARGS = 15, 11, 4
local MINUTE_MS, DAY_MS, STEP_MS = 60000, 86400000, 5000
local principal = ARGV[4]
local quota_examples, quota_labels, quota_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local quarantined = ARGV[8]
if number(KEYS[8], 'renamed') ~= tonumber(ARGV[9]) then return {'RENAMED'} end
local count, label_count = tonumber(ARGV[10]), tonumber(ARGV[11])
local first_seen, first_example = FIRST_KEY + label_count, FIRST_ARG + label_count
local first_former, first_former_arg = first_seen + 2 * count, first_example + ARGS * count
local outcomes, batch, new_count, new_bytes = {}, {}, 0, 0

local generations = {}
local function generation_of(label)
  if not generations[label] then generations[label] = redis.call('HGET', KEYS[7], label) or '0' end
  return generations[label]
end

-- Read the seen keys a thousand at a time, since Lua's stack bounds how many arguments a call may have.
local remembered = {}
for first = 1, #KEYS - first_seen, 1000 do
  local last = math.min(first + 999, #KEYS - first_seen)
  for i, seen in ipairs(redis.call('MGET', unpack(KEYS, first_seen + first, first_seen + last))) do
    remembered[first + i - 1] = seen
  end
end

local function resolve(label, generation)
  local next_name = redis.call('HGET', KEYS[15], generation .. '|' .. label)
  while next_name do
    generation, label = string.match(next_name, '^%d+|(%d+)|%d|(.*)$')
    next_name = redis.call('HGET', KEYS[15], generation .. '|' .. label)
  end
  return label, generation
end

-- Return the digest that a seen key has, and the label that its class has now, unless that was forgotten.
local function read_seen(seen)
  if not seen then return nil end
  local digest, generation, label = string.match(seen, '^(%x+)|[^|]+|(%d+)|(.*)$')
  if ARGV[9] ~= '0' then label, generation = resolve(label, generation) end
  if generation_of(label) ~= generation then return nil end
  return digest, label
end

-- By the example's number, what it would have been remembered as under former labels of its class.
local former = {}
for nth = 1, #KEYS - first_former do
  local i = tonumber(ARGV[first_former_arg + 2 * nth - 1])
  former[i] = former[i] or {}
  table.insert(former[i], nth)
end

-- Return which former seen key has an example, if one does.
local function find_former(i, label)
  for _, nth in ipairs(former[i] or {}) do
    local digest, now = read_seen(remembered[2 * count + nth])
    if digest == ARGV[first_former_arg + 2 * nth] and now == label then return nth end
  end
end

for i = 1, count do
  local seen_key, earlier_key = KEYS[first_seen + i], KEYS[first_seen + count + i]
  local at = first_example + ARGS * (i - 1)
  local digest, earlier_digest = ARGV[at + 2], ARGV[at + 4]
  local known = batch[seen_key] or read_seen(remembered[i])
  local nth = former[i] and find_former(i, ARGV[FIRST_ARG + tonumber(string.sub(ARGV[at + 1], 2))])
  if known and (known == digest or known == earlier_digest) then
    outcomes[i] = 'D'
  elseif nth then
    outcomes[i] = tostring(nth)
  elseif known then
    outcomes[i] = 'C'
  elseif earlier_key ~= seen_key and read_seen(remembered[count + i]) == earlier_digest then
    outcomes[i] = 'E'
  else
    batch[seen_key] = digest
    outcomes[i] = 'S'
    new_count = new_count + 1
    new_bytes = new_bytes + #ARGV[at + 3]
  end
end
if new_count == 0 then return outcomes end

local latest
local function in_latest(label)
  if latest == nil then
    latest = {}
    local record = redis.call('HGET', KEYS[9], redis.call('HGET', KEYS[8], 'latest') or '0')
    record = record and cjson.decode(record) or {labels = {}}
    for _, name in ipairs(record.labels) do latest[name] = record.revision end
  end
  return latest[label] ~= nil and tonumber(redis.call('HGET', KEYS[10], label) or '-1') <= latest[label]
end

local function is_known(label)
  return redis.call('SISMEMBER', KEYS[1], label) == 1 or redis.call('SISMEMBER', KEYS[11], label) == 1 or in_latest(label)
end

-- By the label's number.
local added, new_labels = {}, 0
local function label_number(i)
  return tonumber(string.sub(ARGV[first_example + ARGS * (i - 1) + 1], 2))
end
for i = 1, count do
  local nth = label_number(i)
  if outcomes[i] == 'S' and not added[nth] then
    local is_new = (quota_labels > 0 or quarantined ~= '') and not is_known(ARGV[FIRST_ARG + nth])
    added[nth] = {bytes = 0, holdout = 0, is_new = is_new}
    if is_new then new_labels = new_labels + 1 end
  end
end

local kept_count = number(KEYS[2], 'examples') + number(KEYS[2], 'review_examples')
local kept_bytes = number(KEYS[2], 'bytes') + number(KEYS[2], 'review_bytes')
if kept_count + new_count > tonumber(ARGV[1]) then return {'BUDGET', 'examples'} end
if kept_bytes + new_bytes > tonumber(ARGV[2]) then return {'BUDGET', 'bytes'} end
if quota_bytes > 0 and number(KEYS[6], principal) + new_bytes > quota_bytes then
  return {'QUOTA', 'pending_bytes', new_bytes > quota_bytes and 0 or STEP_MS}
end
-- A window begins with the first that is counted and ends by its key's expiry, so no server's own clock takes part.
local function refused(window, limit, coming)
  if limit == 0 or tonumber(redis.call('GET', window) or '0') + coming <= limit then return nil end
  return coming > limit and 0 or math.max(1, redis.call('PTTL', window))
end
local wait = refused(KEYS[12], quota_examples, new_count)
if wait then return {'QUOTA', 'examples_per_minute', wait} end
wait = refused(KEYS[13], quota_labels, new_labels)
if wait then return {'QUOTA', 'new_labels_per_day', wait} end

local function use(window, limit, coming, length_ms)
  if limit > 0 and coming > 0 and redis.call('INCRBY', window, coming) == coming then
    redis.call('PEXPIRE', window, length_ms)
  end
end
use(KEYS[12], quota_examples, new_count, MINUTE_MS)
use(KEYS[13], quota_labels, new_labels, DAY_MS)
for i = 1, count do
  if outcomes[i] == 'S' then
    local at, nth = first_example + ARGS * (i - 1), label_number(i)
    local holdout, digest, record = string.sub(ARGV[at + 1], 1, 1), ARGV[at + 2], ARGV[at + 3]
    local entry = {'e', record, 'h', holdout}
    if principal ~= '' then entry[5], entry[6] = 'p', principal end
    local position = redis.call('XADD', KEYS[FIRST_KEY + nth], '*', unpack(entry))
    local label = ARGV[FIRST_ARG + nth]
    local value = digest .. '|' .. position .. '|' .. generation_of(label) .. '|' .. label
    redis.call('SET', KEYS[first_seen + i], value, 'PX', ARGV[3])
    added[nth].bytes = added[nth].bytes + #record
    added[nth].holdout = added[nth].holdout + tonumber(holdout)
  end
end
for nth, new in pairs(added) do
  local label = ARGV[FIRST_ARG + nth]
  local owned = owners(KEYS[5], label)
  owned[principal] = (owned[principal] or 0) + new.bytes
  if new.is_new and quarantined ~= '' then redis.call('HSET', KEYS[14], label, quarantined) end
  redis.call('SADD', KEYS[1], label)
  redis.call('HINCRBY', KEYS[3], label, new.bytes)
  if new.holdout > 0 then redis.call('HINCRBY', KEYS[4], label, new.holdout) end
  redis.call('HSET', KEYS[5], label, cjson.encode(owned))
end
redis.call('HINCRBY', KEYS[2], 'examples', new_count)
redis.call('HINCRBY', KEYS[2], 'bytes', new_bytes)
redis.call('HINCRBY', KEYS[6], principal, new_bytes)
return outcomes
