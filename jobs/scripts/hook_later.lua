-- No attempt was made: look at the event again. (event, delay in seconds)
if call('EXISTS', key('hook', ARGV[3])) == 0 then return 0 end
call('ZADD', key('outbox'), unix_now() + ARGV[4], ARGV[3])
return 1
