-- Raises an error of this schema: p_message for people, p_facts for programs (JSON in DETAIL). TC001 version
-- conflict, TC002 unknown workflow version, TC003 unknown task, step or subscription, TC004 invalid transition, TC005
-- unknown process or lost delivery, TC006 invalid argument, TC007 row in use by another session, TC008 idempotency
-- key of a task with another input, TC009 rolls back a claim. TC007 and TC009 are caught inside the schema.

create function tasker_core_v1.raise_error(p_code text, p_message text, p_facts jsonb) returns void
language plpgsql as $$
begin
  raise exception using errcode = p_code, message = p_message, detail = p_facts::text;
end
$$;
