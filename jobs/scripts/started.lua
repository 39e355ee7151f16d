-- A gang is ready. (model, seconds it took to load, '1' when it was started again)
observe('load', ARGV[3], tonumber(ARGV[4]))
if ARGV[5] == '1' then count('restarts ' .. ARGV[3]) end
return 1
