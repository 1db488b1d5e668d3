-- Returns a UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits.
-- Called by create_tasks and store_events. PostgreSQL has a function of its own from version 18.

create function tasker_core_v1.uuid_v7(p_at timestamptz) returns uuid
language sql volatile as $$
  select encode(
    set_bit(
      set_bit(
        overlay(uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from p_at) * 1000)::bigint) from 3) from 1 for 6),
        52, 1),
      53, 1),
    'hex')::uuid;
$$;
