-- Returns how a step runs: null in a worker, or the name of the queue system whose jobs run it. A step that declares
-- `worker` or `active_job` keeps that; for others the settings decide (p_queues, an array of the queues whose steps run
-- as jobs). Called by register_workflow and dispatch_queues.

create function tasker_core_v1.step_dispatch(p_declared text, p_queue text, p_queues jsonb) returns text
language sql immutable as $$
  select case coalesce(p_declared, case when p_queues ? p_queue then 'active_job' end)
    when 'active_job' then 'active_job'
  end;
$$;
