-- Give up leases, also revoked ones, that are the owner's. KEYS: leases, at most 4,000. ARGV: owner.
local mine = {}
for n, found in ipairs(redis.call('MGET', unpack(KEYS))) do
  if found and string.sub(found, 2) == ARGV[1] then
    mine[#mine + 1] = KEYS[n]
  end
end
if #mine > 0 then
  redis.call('DEL', unpack(mine))
end
return redis.status_reply('OK')
