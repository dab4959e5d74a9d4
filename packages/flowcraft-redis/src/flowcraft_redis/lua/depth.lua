-- How many messages wait in a queue. KEYS: stream of level 0, levels, delayed. ARGV: begin and end of streams' names.
local function waiting(stream)
  local length = redis.call('XLEN', stream)
  if length == 0 then
    return 0
  end
  local pending = redis.pcall('XPENDING', stream, 'flowcraft')
  return pending.err and length or length - pending[1]
end

local total = waiting(KEYS[1]) + redis.call('ZCOUNT', KEYS[3], '-inf', now())
for _, level in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  total = total + waiting(ARGV[1] .. level .. ARGV[2])
end
return total
