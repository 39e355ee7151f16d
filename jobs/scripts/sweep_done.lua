-- (member, score): deleted, unless it was noted again meanwhile.
if call('ZSCORE', key('sweep'), ARGV[3]) == ARGV[4] then call('ZREM', key('sweep'), ARGV[3]) end
return 1
