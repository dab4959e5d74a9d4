-- Add one; nothing if there is other text. KEYS: the counter. ARGV: ttl in ms of a new one.
local total = redis.pcall('INCR', KEYS[1])
if type(total) == 'table' then
  return false
end
if total == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return total
