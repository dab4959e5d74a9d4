-- Remove messages that were delivered. KEYS: streams. ARGV: groups of ids.
settle()
return redis.status_reply('OK')
