-- What all scripts know. KEYS[1] is the hash of a job or a scheduler, ARGV[1] what the keys of its queue begin with, ARGV[2]
-- its id (of a scheduler: `repeat:` and its id), ARGV[3] how many elements one call may look through.
local call = redis.call
local hash, base, id, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local ORDERED = {'completed', 'waiting-children', 'delayed', 'failed', 'prioritized'}
local LISTS = {'wait', 'paused', 'active'}

-- The queue and the id of another job, by its key.
local function split(key)
  return string.match(key, '^(.*:)([^:]*)$')
end

-- Which scheduler the hash is, if it is one: a job knows when it was made, and by which scheduler.
local function scheduler()
  if string.sub(id, 1, 7) ~= 'repeat:' then return nil end
  local made = call('HMGET', hash, 'timestamp', 'rjk')
  if made[1] or made[2] then return nil end
  return string.sub(id, 8)
end

-- The scheduler that has this job as its next one, if any has.
local function next_of()
  local of = call('HGET', hash, 'rjk')
  local at = of and call('ZSCORE', base .. 'repeat', of)
  return at and id == 'repeat:' .. of .. ':' .. at and of or nil
end

-- Where an element of a list is, and from which end it was found; 'far' if it would have to be looked for further.
local function find(list, element)
  local at = call('LPOS', list, element, 'MAXLEN', limit)
  if at then return at, 1 end
  at = call('LPOS', list, element, 'RANK', -1, 'MAXLEN', limit)
  if at then return at, -1 end
  if call('LLEN', list) > 2 * limit then return 'far' end
  return nil
end

-- The state that the job is in: its structure, and the score there, or the place in the list and the end it was found from.
local function place()
  for _, set in ipairs(ORDERED) do
    local score = call('ZSCORE', base .. set, id)
    if score then return set, score end
  end
  for _, list in ipairs(LISTS) do
    local at, from = find(base .. list, id)
    if at == 'far' then return 'far' end
    if at then return list, at, from end
  end
  return 'unknown'
end

-- Takes the job out of the state that `place` gave.
local function leave(where, from)
  if where == 'wait' or where == 'paused' then
    call('LREM', base .. where, from, id)
  elseif where ~= 'unknown' then
    call('ZREM', base .. where, id)
  end
end

-- How many elements a job has beside its hash.
local function beside()
  return call('HLEN', hash) + call('LLEN', hash .. ':logs') + call('SCARD', hash .. ':dependencies')
    + call('HLEN', hash .. ':processed') + call('HLEN', hash .. ':failed') + call('ZCARD', hash .. ':unsuccessful')
end

-- What changes whenever the job does, except for its pending children, who leave before it, and the state that their leaving
-- moves it to: every other move writes into the hash.
local function digest_of_job()
  local parts = {}
  for _, suffix in ipairs({'', ':logs', ':processed', ':failed', ':unsuccessful'}) do
    local dump = call('DUMP', hash .. suffix) or ''
    parts[#parts + 1] = #dump .. ':' .. dump
  end
  return redis.sha1hex(table.concat(parts))
end

-- The same of a scheduler, whose next time is a part of it.
local function digest_of_scheduler(name)
  return redis.sha1hex((call('ZSCORE', base .. 'repeat', name) or '') .. ':' .. (call('DUMP', hash) or ''))
end

-- What a queue says about itself: paused, as many at work as it may have, and whether waiting jobs of a paused queue are in a
-- list of their own, as up to 5.x.
local function queue(of)
  local meta = call('HMGET', of .. 'meta', 'paused', 'concurrency', 'version')
  local paused = meta[1] and true or false
  local full = meta[2] and call('LLEN', of .. 'active') >= tonumber(meta[2]) or false
  local major = meta[3] and tonumber(string.match(meta[3], '(%d+)%.')) or 5
  return paused, full, (paused and major < 6) and 'paused' or 'wait'
end
