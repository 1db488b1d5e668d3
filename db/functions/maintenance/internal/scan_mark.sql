-- Where may this session begin to look for rows of a table? Marks that save_scan_mark was told, or null when the next look has
-- to be a whole one. One expression, so that it becomes a part of the caller's.

create function tasker_core_v1.scan_mark(p_table regclass) returns jsonb
language sql volatile as $$
  select case
    when (nullif(current_setting('tasker_core.look_' || p_table::oid, true), '')::jsonb->>'whole_at')::float
      > extract(epoch from clock_timestamp())
    then current_setting('tasker_core.look_' || p_table::oid, true)::jsonb->'marks'
  end;
$$;
