-- Publish messages: one call for all of them, however many runs they are of. ARGV: channel, message, for each.
for n = 1, #ARGV, 2 do
  redis.call('PUBLISH', ARGV[n], ARGV[n + 1])
end
return redis.status_reply('OK')
