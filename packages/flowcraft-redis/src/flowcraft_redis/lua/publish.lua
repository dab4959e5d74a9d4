-- Put messages into streams, now or when they are due. KEYS: levels, streams, delayed.
-- ARGV: levels to make known; messages for streams; then the delay in seconds and members of sorted sets.
push()
local count = number()
if count > 0 then
  local due = now() + number()
  for _ = 1, count do
    local key = KEYS[number()]
    redis.call('ZADD', key, due, take())
  end
end
return redis.status_reply('OK')
