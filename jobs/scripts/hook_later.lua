-- No attempt was made: look at the events again. (event, delay in seconds, ...)
local now = unix_now()
for i = 3, #ARGV, 2 do
  if call('EXISTS', key('hook', ARGV[i])) == 1 then
    call('ZADD', key('outbox'), now + ARGV[i + 1], ARGV[i])
  end
end
