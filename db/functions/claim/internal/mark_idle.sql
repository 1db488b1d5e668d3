-- Marks that a process waits for ready steps, as a worker or as a dispatcher, or that it has found more than it can
-- take. Only marked processes are notified (wake_workers). Called by claim_steps and dispatch_steps.

create function tasker_core_v1.mark_idle(p_process bigint, p_dispatcher boolean, p_idle boolean) returns void
language plpgsql as $$
begin
  if p_dispatcher then
    update tasker_processes set idle_dispatcher = p_idle where id = p_process and idle_dispatcher <> p_idle;
  else
    update tasker_processes set idle = p_idle where id = p_process and idle <> p_idle;
  end if;
end
$$;
