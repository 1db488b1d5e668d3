-- Returns the lowest UUID version 7 of a millisecond. A task's uuid begins with its time of creation, so the index on
-- uuid finds the tasks created since, or before, a time.

create function tasker_core_v1.uuid_v7_floor(p_at timestamptz) returns uuid
language sql immutable as $$
  select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
$$;
