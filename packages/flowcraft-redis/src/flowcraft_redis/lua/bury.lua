-- Move a message in hand to the dead letters, if it is still whoever's says so. KEYS: stream, dead letters.
-- ARGV: id, most letters, queue, reason, body.
if redis.call('XACK', KEYS[1], 'flowcraft', ARGV[1]) == 1 then
  redis.call('XDEL', KEYS[1], ARGV[1])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'queue', ARGV[3], 'reason', ARGV[4], 'body', ARGV[5])
end
return redis.status_reply('OK')
