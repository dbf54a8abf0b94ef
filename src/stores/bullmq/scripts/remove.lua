-- Removes a job as BullMQ's `job.remove()` does without its children, or a scheduler's registration, if it still has the
-- digest ARGV[4]. Answers `removed`, `absent`, or why it stays; then nothing was changed.
if call('EXISTS', hash) == 0 then return 'absent' end
local name = scheduler()
if name then
  if digest_of_scheduler(name) ~= ARGV[4] then return 'changed' end
  call('ZREM', base .. 'repeat', name)
  call('UNLINK', hash)
  return 'removed'
end
if call('EXISTS', hash .. ':lock') == 1 then return 'locked' end
if next_of() then return 'scheduled' end
if beside() > limit then return 'large' end
if digest_of_job() ~= ARGV[4] then return 'changed' end
for _, child in ipairs(call('SMEMBERS', hash .. ':dependencies')) do
  if call('EXISTS', child) == 1 then return 'children' end
end
local where, _, from = place()
if where == 'far' then return 'far' end
if where == 'active' then return 'locked' end

-- Its parent waits for it no longer, and goes on if it waits for nobody else.
local function leave_parent(parent)
  if not parent or parent == '' or call('EXISTS', parent) == 0 then return end
  if call('SREM', parent .. ':dependencies', hash) == 0 or call('SCARD', parent .. ':dependencies') > 0 then return end
  local its_base, its_id = split(parent)
  if call('ZREM', its_base .. 'waiting-children', its_id) == 0 then return end
  local paused, full, list = queue(its_base)
  call('RPUSH', its_base .. list, its_id)
  if not paused and not full then call('ZADD', its_base .. 'marker', 0, '0') end
  call('XADD', its_base .. 'events', '*', 'event', 'waiting', 'jobId', its_id, 'prev', 'waiting-children')
end

local related = call('HMGET', hash, 'parentKey', 'deid')
leave_parent(related[1])
leave(where, from)
if related[2] and call('GET', base .. 'de:' .. related[2]) == id then
  call('UNLINK', base .. 'de:' .. related[2], base .. 'dn:' .. related[2])
end
call('UNLINK', hash, hash .. ':logs', hash .. ':dependencies', hash .. ':processed', hash .. ':failed', hash .. ':unsuccessful')
local events = call('HGET', base .. 'meta', 'opts.maxLenEvents')
if not events then
  events = 10000
  call('HSET', base .. 'meta', 'opts.maxLenEvents', events)
end
call('XADD', base .. 'events', 'MAXLEN', '~', events, '*', 'event', 'removed', 'jobId', id, 'prev', where)
return 'removed'
