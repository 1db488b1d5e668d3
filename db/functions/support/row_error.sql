-- Describes an error that comes from the rows of a statement and that fewer rows may avoid: {class, message, code}. The
-- database rejects what they hold (22, 23, 54), or cannot read stored data: XX, 58030 (I/O error), 58P01 (missing
-- file). Returns null for every other error: a time-out says nothing about a row. `Error::kind` of the orchestrator and
-- `Postgres::Functions` of the gem have the same codes, and those of time-outs and exhausted memory.
-- Called by claim_error, end_lost_attempts, return_unstarted_claims, find_tasks, fits_if_readable and readable_error.

create function tasker_core_v1.row_error(p_code text, p_message text) returns jsonb
language sql immutable as $$
  select jsonb_build_object('class', 'TaskerCore::DatabaseError', 'message', p_message, 'code', p_code)
  where left(p_code, 2) in ('22', '23', '54', 'XX') or p_code in ('58030', '58P01');
$$;
