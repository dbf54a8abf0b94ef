-- What must be known to judge a job: {kind, has data, data, parent, scheduler, has its data, its data, children …}. The kind is
-- empty if there is nothing; `large` if it has more children than may be looked at. Of a scheduler, what stands for `scheduler`
-- is its next job, if there is one, and that one's data.
if call('EXISTS', hash) == 0 then return {''} end
local function data_of(key)
  local data = call('HGET', key, 'data')
  return data and '1' or '', data or ''
end
local has, data = data_of(hash)
local name = scheduler()
if name then
  local at = call('ZSCORE', base .. 'repeat', name)
  local job = at and 'repeat:' .. name .. ':' .. at or ''
  if job == '' or call('EXISTS', base .. job) == 0 then return {'scheduler', has, data, '', '', '', ''} end
  local job_has, job_data = data_of(base .. job)
  return {'scheduler', has, data, '', job, job_has, job_data}
end
local facts = {'job', has, data, call('HGET', hash, 'parentKey') or '', '', '', ''}
local of = next_of()
if of then
  local its_has, its_data = data_of(base .. 'repeat:' .. of)
  facts[5], facts[6], facts[7] = 'repeat:' .. of, its_has, its_data
end
local children = call('SCARD', hash .. ':dependencies') + call('HLEN', hash .. ':processed')
  + call('HLEN', hash .. ':failed') + call('ZCARD', hash .. ':unsuccessful')
if children > limit then
  facts[1] = 'large'
  return facts
end
for _, list in ipairs({
  call('SMEMBERS', hash .. ':dependencies'), call('HKEYS', hash .. ':processed'), call('HKEYS', hash .. ':failed'),
  call('ZRANGE', hash .. ':unsuccessful', 0, -1),
}) do
  for _, child in ipairs(list) do facts[#facts + 1] = child end
end
return facts
