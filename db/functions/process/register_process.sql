-- Registers a worker process and returns its id.
--
-- p_process: {id, name, hostname, pid, queues, dispatches, heartbeat_timeout_ms, lease_grace_ms}. The id has 52 random
-- bits, which every JSON parser reads exactly: no other state of the database, to which a fail-over or a restore may
-- return, can have given the same one. The process draws it when it retries after a lost response; without an id it is
-- drawn here.
-- p_former: {process, system, held: as in held_claims}: the registration to replace, after the process was declared
-- dead or the database failed over. The new registration takes over the claims that the former one has and the
-- process still holds, so that running steps need not run again; the other claims are returned, and recorded as
-- released, except those whose jobs are enqueued. On another system (server_identity) none are taken over.
--
-- Called when a worker starts, and for each p_former. Locks: the former process, then its claims by token.

create function tasker_core_v1.register_process(p_process jsonb, p_former jsonb default null) returns bigint
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_id bigint := coalesce((p_process->>'id')::bigint,
    ('x' || right(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)::bigint);
  v_former bigint := (p_former->>'process')::bigint;
  v_held bigint[];
begin
  insert into tasker_processes (
    id, name, hostname, pid, queues, idle, idle_dispatcher, started_at, heartbeat_at, heartbeat_timeout, lease_grace)
  select
    v_id, p.name, p.hostname, p.pid, p.queues, false, case when p.dispatches then false end, v_now, v_now,
    make_interval(secs => p.heartbeat_timeout_ms / 1000.0), make_interval(secs => p.lease_grace_ms / 1000.0)
  from jsonb_to_record(p_process) as p (
    name text, hostname text, pid integer, queues text[], dispatches boolean, heartbeat_timeout_ms bigint,
    lease_grace_ms bigint)
  on conflict (id) do nothing;

  if v_former is not null then
    perform tasker_core_v1.delete_processes(array[v_former]);

    if p_former->>'system' is not distinct from tasker_core_v1.server_identity()->>'system' then
      v_held := tasker_core_v1.held_claims(v_former, p_former->'held');
      update tasker_claimed_steps
      set process_id = v_id
      where ctid = any(array(
        select ctid
        from tasker_claimed_steps
        where token = any(v_held) and process_id = v_former
        order by token
        for update));
    end if;

    perform tasker_core_v1.return_claims(
      array(
        select token from tasker_claimed_steps where process_id = v_former and dispatch is distinct from 'enqueued'),
      '0', 'unknown_claim', true);
  end if;

  return v_id;
end
$$;
