-- Removes a worker process and returns its claims without using attempts. Attempts that it had started are
-- recorded as released, and their steps run again. Enqueued jobs do not depend on their dispatcher and keep their
-- claims. Returns {ready_queues}. Called by a worker when it stops.
-- Locks: the process, then its claims by token.

create function tasker_core_v1.deregister_process(p_process bigint) returns json
language plpgsql as $$
begin
  delete from tasker_processes where id = p_process;

  return tasker_core_v1.return_claims(
    array(select token from tasker_claimed_steps where process_id = p_process and dispatch is distinct from 'enqueued'),
    '0', 'shutdown', true);
end
$$;
