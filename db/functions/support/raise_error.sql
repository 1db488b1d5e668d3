-- Raises one of our errors: a sentence for people, facts for programs (as JSON in DETAIL).
-- Codes: TC001 version conflict, TC002 unknown workflow version, TC003 unknown task or step, TC004 refused transition,
-- TC005 unknown process, TC006 bad argument, TC007 somebody is at work on it (never leaves the functions), TC008 idempotency key
-- of a task with another input, TC009 takes a claim back (never leaves the functions).

create function tasker_core_v1.raise_error(p_code text, p_message text, p_facts jsonb) returns void
language plpgsql as $$
begin
  raise exception using errcode = p_code, message = p_message, detail = p_facts::text;
end
$$;
