-- All of a job or a scheduler at one moment: {status, has data, data, digest, further fields}; ARGV[4] is `whole` if it is to be
-- copied. The status is empty if there is nothing, or says why it cannot go.
if call('EXISTS', hash) == 0 then return {''} end
local whole = ARGV[4] == 'whole'
local data = call('HGET', hash, 'data')
local has = data and '1' or ''
local function dump(key) return whole and call('DUMP', key) or '' end
local name = scheduler()
if name then
  local at = call('ZSCORE', base .. 'repeat', name) or ''
  return {'scheduler', has, data or '', digest_of_scheduler(name), at, dump(hash)}
end
if call('EXISTS', hash .. ':lock') == 1 then return {'locked'} end
if beside() > limit then return {'large'} end
local digest = digest_of_job()
if not whole then return {'job', has, data or '', digest} end
local where, at = place()
if where == 'far' then return {'far'} end
if where == 'active' then return {'locked'} end
-- A place in a list is counted from its right end, where workers take from.
if where == 'wait' or where == 'paused' then at = call('LLEN', base .. where) - 1 - at end
local related = call('HMGET', hash, 'parentKey', 'deid')
local pending = ''
if related[1] and related[1] ~= '' and call('SISMEMBER', related[1] .. ':dependencies', hash) == 1 then
  local its_base, its_id = split(related[1])
  pending = its_base and call('ZSCORE', its_base .. 'waiting-children', its_id) or ''
end
local lives, following = '', ''
if related[2] and call('GET', base .. 'de:' .. related[2]) == id then
  lives = tostring(call('PTTL', base .. 'de:' .. related[2]))
  following = dump(base .. 'dn:' .. related[2])
end
return {
  'job', has, data or '', digest, where, tostring(at or ''), pending and pending ~= '' and related[1] or '', pending or '',
  related[2] or '', lives, following, dump(hash), dump(hash .. ':logs'), dump(hash .. ':dependencies'),
  dump(hash .. ':processed'), dump(hash .. ':failed'), dump(hash .. ':unsuccessful'),
}
