"""What Redis runs for one decision: a Lua script for each algorithm, assembled from common parts.

A script sees Redis's own clock and nothing of the callers', so replicas of Mixer need not agree on the time. It does all
that belongs to a decision in one go: remembers and repeats answers, charges, and says where the counter stands.
Every key that it writes expires by itself, at most a window after the last charge.

Keys: the counter, for windows and leases also its charges, and last, when ``ARGV[5]`` is not 0, the memory of the answer.

====== ==============================================================================
ARGV   meaning
====== ==============================================================================
1      the limit, in units
2      the window (for leases: how long one lasts), in microseconds
3      units wanted; negative gives them back
4      ``1``: less than that is welcome
5      how long a grant is remembered at most, in microseconds; 0: not at all
6      how long any other answer is remembered at most, in microseconds
7      windows and leases: charges less than this apart count as one, in microseconds
8      windows and leases: ``1`` gives back the oldest charges first, otherwise the newest
====== ==============================================================================

The answer is five integers: units granted (or given back), for how many microseconds, units left, microseconds
until the next unit comes back, and 1 when all of it repeats an earlier answer's grant.

Times are microseconds since 1970: whole numbers of that size are exact in Lua, whose only numbers are doubles.
``%d`` writes them out in full where plain concatenation would round.

Source: spec adapters 4.7, whose windows these are; the token bucket and leases are ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

MAX_UNITS: Final = 1 << 52
"""More than this counts as this: sums of two are still exact in a script."""

REDIS_CLOCK: Final = """
if redis.replicate_commands then redis.replicate_commands() end  -- until Redis 7: no writing after TIME without it
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
"""
"""Sets ``now``. Tests of what happens when put another clock in its place."""

_HEAD: Final = """
local max, window, amount, partial = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local keep_grant, keep_other = tonumber(ARGV[5]), tonumber(ARGV[6])
local note = keep_grant > 0 and KEYS[#KEYS]
local granted, holds_until, left, reset = 0, 0, 0, 0

local earlier = note and redis.call('GET', note)
local earlier_granted, earlier_until
if earlier then
  local forget_at
  earlier_granted, earlier_until, forget_at = string.match(earlier, '^(%d+) (%d+) (%d+)$')
  if not forget_at or tonumber(forget_at) <= now then
    earlier = false
  else
    amount = 0  -- charge nothing, but look where the counter stands
  end
end

local function ttl(microseconds) return math.ceil(microseconds / 1000) + 1 end

local function grant(free)
  if amount <= free then return amount end
  if partial and free > 0 then return free end
  return 0
end
"""

_FIXED: Final = """
local state = redis.call('HMGET', KEYS[1], 'used', 'ends')
local used, ends = tonumber(state[1]) or 0, tonumber(state[2]) or 0
if now >= ends then
  used = 0
elseif ends > now + window then  -- the clock went back, or the window was made shorter
  ends = now + window
end
if amount > 0 then
  granted = grant(max - used)
  if granted > 0 then
    if now >= ends then ends = now + window end
    used = used + granted
    holds_until = ends
  end
elseif amount < 0 then
  granted = math.min(-amount, used)
  used = used - granted
end
if granted > 0 then
  if used > 0 then
    redis.call('HSET', KEYS[1], 'used', used, 'ends', ends)
    redis.call('PEXPIRE', KEYS[1], ttl(ends - now))
  else
    redis.call('DEL', KEYS[1])
  end
end
left = max - used
if used > 0 then reset = ends - now end
"""

_CHARGES: Final = """
local apart, oldest_first = tonumber(ARGV[7]), ARGV[8] == '1'

local function charge(place)  -- when, and how many units
  local text = redis.call('LINDEX', KEYS[2], place)
  if not text then return nil, nil end
  local at, units = string.match(text, '^(%d+) (%d+)$')
  return tonumber(at), tonumber(units)
end

local used = tonumber(redis.call('GET', KEYS[1]) or nil)
if not used then  -- evicted, or nothing is out
  used = 0
  for _, text in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    used = used + tonumber(string.match(text, ' (%d+)$'))
  end
end

local changed = false
local first_at, first_units = charge(0)
while first_at and first_at <= now - window do
  redis.call('LPOP', KEYS[2])
  used = used - first_units
  changed = true
  first_at, first_units = charge(0)
end
if not first_at then used = 0 end

if amount > 0 then
  granted = grant(max - used)
  if granted > 0 then
    local last_at, last_units = charge(-1)
    if last_at and (now - last_at < apart or last_at >= now) then
      redis.call('LSET', KEYS[2], -1, string.format('%d %d', last_at, last_units + granted))
    else
      redis.call('RPUSH', KEYS[2], string.format('%d %d', now, granted))
      last_at = now
    end
    first_at = first_at or now
    used = used + granted
    redis.call('PEXPIRE', KEYS[2], ttl(math.max(last_at, now) + window - now))
    holds_until = now + window
    changed = true
  end
elseif amount < 0 then
  local wanted, place, pop = math.min(-amount, used), -1, 'RPOP'
  if oldest_first then place, pop = 0, 'LPOP' end
  while granted < wanted do
    local at, units = charge(place)
    if not at then break end
    if units <= wanted - granted then
      redis.call(pop, KEYS[2])
      granted = granted + units
    else
      redis.call('LSET', KEYS[2], place, string.format('%d %d', at, units - (wanted - granted)))
      granted = wanted
    end
  end
  used = used - granted
  changed = changed or granted > 0
  first_at = charge(0)
end
if changed then
  if used > 0 then
    local last_at = charge(-1)
    redis.call('SET', KEYS[1], string.format('%d', used), 'PX', ttl(math.max(last_at, now) + window - now))
  else
    redis.call('DEL', KEYS[1], KEYS[2])
  end
end
left = max - used
if used > 0 then reset = first_at + window - now end
"""

_TOKENS: Final = """
-- debt: what is taken and not yet refilled, in units times the window, so that refilling for a microsecond is exactly max
local state = redis.call('HMGET', KEYS[1], 'debt', 'at')
local debt, at = tonumber(state[1]) or 0, tonumber(state[2]) or now
debt = math.max(0, debt - math.max(0, now - at) * max)
if amount > 0 then
  granted = grant(math.floor((max * window - debt) / window))
  if granted > 0 then
    debt = debt + granted * window
    holds_until = now + window
  end
elseif amount < 0 then
  granted = math.min(-amount, math.ceil(debt / window))
  debt = math.max(0, debt - granted * window)
end
if granted > 0 then
  if debt > 0 then
    redis.call('HSET', KEYS[1], 'debt', debt, 'at', now)
    redis.call('PEXPIRE', KEYS[1], ttl(debt / max))
  else
    redis.call('DEL', KEYS[1])
  end
end
left = math.floor((max * window - debt) / window)
if debt > 0 then reset = math.ceil((debt - (math.ceil(debt / window) - 1) * window) / max) end
"""

_TAIL: Final = """
if earlier then
  return {tonumber(earlier_granted), math.max(0, tonumber(earlier_until) - now), math.max(0, left), reset, 1}
end
if note and amount ~= 0 then
  local keep = keep_other
  if holds_until > 0 then keep = math.min(keep_grant, holds_until - now) end
  redis.call('SET', note, string.format('%d %d %d', granted, holds_until, now + keep), 'PX', ttl(keep))
end
return {granted, math.max(0, holds_until - now), math.max(0, left), reset, 0}
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the name under which Redis keeps it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Scripts:
    """One script for each way to count, all on one clock."""

    fixed: Script
    charges: Script
    tokens: Script

    @classmethod
    def on(cls, clock: str) -> Scripts:
        """The scripts, with the given Lua to set ``now``."""
        return cls(*(Script(clock + _HEAD + body + _TAIL) for body in (_FIXED, _CHARGES, _TOKENS)))


SCRIPTS: Final = Scripts.on(REDIS_CLOCK)
