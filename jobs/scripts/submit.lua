-- (id, max_queued, units, model, field, value, ...) -> record; false when the queue is full.
-- The same id again gives the record that is there.
local id, max_queued, units, model = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
if call('EXISTS', key('job', id)) == 1 then return whole(id) end
if tonumber(call('GET', key('queued')) or 0) >= max_queued then return false end
call('HSET', key('job', id), 'units', units, 'model', model, unpack(ARGV, 7))
local job = read(id)
call('ZADD', key('owner', job.owner), job.created_at, id)
call('INCR', key('queued'))
enqueue(job, lowest_time(job))
wake()
return whole(id)
