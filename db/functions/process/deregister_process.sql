-- Removes a worker process and returns its claims without using attempts. Attempts that it had started are
-- recorded as released, and their steps run again. Enqueued jobs do not depend on their dispatcher and keep their
-- claims. p_stats: as in heartbeat. Returns {ready_queues}. Called by a worker when it stops.
-- Locks: the process, then its claims by token.

create function tasker_core_v1.deregister_process(p_process bigint, p_stats jsonb default null) returns json
language plpgsql as $$
begin
  update tasker_processes set stats = p_stats where id = p_process and p_stats is not null;
  perform tasker_core_v1.delete_processes(array[p_process]);

  return tasker_core_v1.return_claims(
    array(select token from tasker_claimed_steps where process_id = p_process and dispatch is distinct from 'enqueued'),
    '0', 'shutdown', true);
end
$$;
