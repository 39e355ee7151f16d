-- Take or renew the lead. (token, ttl in ms) -> 1 when this token leads.
local leads = call('GET', key('lead'))
if leads and leads ~= ARGV[3] then return 0 end
call('SET', key('lead'), ARGV[3], 'PX', ARGV[4])
return 1
