-- Cancel if live, then remove the record; its files go to the sweep. (id, owner or '', nonce) -> 1 or 0.
-- The nonce is this call's: the script sent twice answers the same, a second DELETE finds nothing.
local id, owner, nonce = ARGV[3], ARGV[4], ARGV[5]
local job = read(id)
if not job then return call('GET', key('deleted', id)) == nonce and 1 or 0 end
if owner ~= '' and job.owner ~= owner then return 0 end
local now = unix_now()
local running = job.state == 'in_progress'
if running or job.state == 'queued' then cancel_live(job, now) end
forget(job, running and now + SWEEP_GRACE_S or now)
call('SET', key('deleted', id), nonce, 'EX', 60)
return 1
