-- Change limits of an API key. (key id, field, value or '', ...) -> 1, or 0: no such key.
local hash = key('key', ARGV[3])
if call('EXISTS', hash) == 0 then return 0 end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then call('HDEL', hash, ARGV[i]) else call('HSET', hash, ARGV[i], ARGV[i + 1]) end
end
return 1
