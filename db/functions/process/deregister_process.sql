-- Takes a worker process off the list and gives its claims back without spending an attempt; what it had
-- started and not finished is recorded as released and run again. Called by a worker that ends of its own accord.

create function tasker_core_v1.deregister_process(p_process bigint) returns json
language plpgsql as $$
begin
  delete from tasker_processes where id = p_process;

  return tasker_core_v1.return_claims(
    array(select token from tasker_claimed_steps where process_id = p_process), '0', 'shutdown', true);
end
$$;
