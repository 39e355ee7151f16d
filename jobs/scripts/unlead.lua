-- Give up the lead. (token)
if call('GET', key('lead')) == ARGV[3] then call('DEL', key('lead')) end
return 1
