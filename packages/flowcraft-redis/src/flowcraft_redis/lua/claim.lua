-- Take leases. A lease is '+' and its owner, '-' and its owner once it was revoked. KEYS: leases. ARGV: owner, ttl in ms.
local mine, answers = '+' .. ARGV[1], {}
for n, key in ipairs(KEYS) do
  local before = redis.call('SET', key, mine, 'NX', 'GET', 'PX', ARGV[2])
  if not before then
    answers[n] = 1
  elseif before == mine then
    redis.call('PEXPIRE', key, ARGV[2])
    answers[n] = 1
  else
    answers[n] = 0
  end
end
return answers
