-- Puts back what copy.lua gave. ARGV[4] is `look`, `missing` or `overwrite`, ARGV[5] `job` or `scheduler`, and the others are
-- what the copy has, in its order. Answers `restored`, `exists`, or why it could not be; then nothing was changed.
local mode, kind = ARGV[4], ARGV[5]
local there = call('EXISTS', hash) == 1
if there and mode == 'missing' then return 'exists' end
if mode == 'look' then return there and 'exists' or 'restored' end

local function restore(key, dump)
  if dump == '' then call('UNLINK', key) else call('RESTORE', key, 0, dump, 'REPLACE') end
end

if kind == 'scheduler' then
  restore(hash, ARGV[7])
  local name = string.sub(id, 8)
  if ARGV[6] == '' then call('ZREM', base .. 'repeat', name) else call('ZADD', base .. 'repeat', ARGV[6], name) end
  return 'restored'
end

local where, at, parent, pending, deid, lives, following = unpack(ARGV, 6, 12)
if call('EXISTS', hash .. ':lock') == 1 then return 'locked' end
local now, _, from = place()
if now == 'far' then return 'far' end
if now == 'active' then return 'locked' end
for n, suffix in ipairs({'', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful'}) do
  restore(hash .. suffix, ARGV[12 + n])
end
leave(now, from)

local paused, full, list = queue(base)
if where == 'wait' or where == 'paused' then
  list = base .. list
  local before = tonumber(at)
  local pivot = before > 0 and call('LLEN', list) <= limit and call('LINDEX', list, -before)
  if pivot then
    call('LINSERT', list, 'BEFORE', pivot, id)
  elseif before > 0 and call('LLEN', list) <= limit then
    call('LPUSH', list, id)
  else
    call('RPUSH', list, id)
  end
elseif where ~= 'unknown' then
  call('ZADD', base .. where, at, id)
end
-- Workers sleep until there is a marker.
if where == 'delayed' then
  local first = call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
  call('ZADD', base .. 'marker', tonumber(first[2]) / 4096, '1')
elseif not paused and not full and (where == 'wait' or where == 'paused' or where == 'prioritized') then
  call('ZADD', base .. 'marker', 0, '0')
end

if lives ~= '' then
  local key = base .. 'de:' .. deid
  if mode == 'overwrite' or call('EXISTS', key) == 0 then
    call('SET', key, id)
    if tonumber(lives) > 0 then call('PEXPIRE', key, lives) end
    if following ~= '' then restore(base .. 'dn:' .. deid, following) end
  end
end

-- A parent that stayed waits for it again, if it has not gone on since.
if parent ~= '' and call('EXISTS', parent) == 1 and call('SISMEMBER', parent .. ':dependencies', hash) == 0 then
  local its_base, its_id = split(parent)
  local waits = call('ZSCORE', its_base .. 'waiting-children', its_id)
  for _, waiting in ipairs({'wait', 'paused'}) do
    local found, end_of = find(its_base .. waiting, its_id)
    if not waits and found and found ~= 'far' then
      call('LREM', its_base .. waiting, end_of, its_id)
      call('ZADD', its_base .. 'waiting-children', pending, its_id)
      waits = true
    end
  end
  if waits then call('SADD', parent .. ':dependencies', hash) end
end
return 'restored'
