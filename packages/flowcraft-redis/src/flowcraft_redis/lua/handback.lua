-- Make messages in hand anyone's again, those that are still whoever's says so. KEYS: stream, delayed.
-- ARGV: level, seconds of delay, then id, unique name, 1 if delivered before else 0, body, for each.
local level, delay = take(), number()
while at < #ARGV do
  local id, name, seen, body = take(), take(), take(), take()
  if redis.call('XACK', KEYS[1], 'flowcraft', id) == 1 then
    redis.call('XDEL', KEYS[1], id)
    if delay > 0 then
      redis.call('ZADD', KEYS[2], now() + delay, name .. seen .. level .. ':' .. body)
    else
      redis.call('XADD', KEYS[1], '*', 'b', body, 'd', seen)
    end
  end
end
return redis.status_reply('OK')
