-- Mark leases, so that their owners learn it. KEYS: leases, at most 4,000.
for n, found in ipairs(redis.call('MGET', unpack(KEYS))) do
  if found then
    redis.call('SET', KEYS[n], '-' .. string.sub(found, 2), 'XX', 'KEEPTTL')
  end
end
return redis.status_reply('OK')
