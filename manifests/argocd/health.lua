-- Health of plugset.dev/Workspace for Argo CD: Healthy exactly where kstatus says Current, so that Argo CD, Flux and
-- `kubectl wait` agree. The rest is Degraded where a person has to mend something, Suspended where somebody wants it so or
-- has to agree first, and Progressing where plugset goes on by itself. Needs no library: Argo CD opens none for it.

-- Nothing is wrong, and nothing goes on before somebody says so.
local WAITS = {
  AwaitingApproval = true,
  ObserveOnly = true,
  Paused = true,
  PruneHeld = true,
  Pull = true,
  Suspended = true,
}

local metadata = obj.metadata or {}
local status = obj.status or {}
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready = found.Ready

local function isTrue(condition)
  return condition ~= nil and condition.status == "True"
end

local function health(verdict, condition, otherwise)
  local message = otherwise
  if condition ~= nil then
    message = condition.reason .. ": " .. condition.message
  end
  return { status = verdict, message = message }
end

if metadata.deletionTimestamp ~= nil then
  return health("Progressing", ready, "plugset takes away what it has installed")
end
if status.observedGeneration ~= metadata.generation then
  -- What stands there may have been concluded from another declaration.
  local isOld = ready ~= nil and ready.observedGeneration ~= metadata.generation
  return health("Progressing", not isOld and ready or nil, "plugset has not ended a pass over this declaration yet")
end
if isTrue(found.Reconciling) then
  return health("Progressing", ready, "plugset is at work")
end
if isTrue(found.Stalled) then
  return health("Degraded", found.Stalled)
end
if isTrue(ready) then
  return health("Healthy", ready)
end
if ready ~= nil and WAITS[ready.reason] then
  return health("Suspended", ready)
end
return health("Progressing", ready, "plugset has not said how it stands")
