-- Claims up to p_limit ready steps for the application's job queue, the most urgent first, so that at most p_in_flight
-- steps are out: claimed by dispatchers, enqueued, or running in a job. The dispatcher enqueues a job for each claim
-- and confirms it (confirm_dispatch); a claim whose job does not start within p_start_timeout returns (sweep). Returns
-- what claim_steps does, without payloads, set_aside, full: whether p_in_flight left no room, and priorities: of the
-- jobs, by token. p_set_aside_damaged: as in claim_steps.
-- A dispatcher that has claimed nothing is marked idle, so that a new step or the end of a job notifies it; a full claim
-- clears the mark, as in claim_steps.
-- Locks: an advisory lock, so that dispatchers count the steps that are out one after another; then those of
-- claim_steps. Index: tasker_dispatched_claims.

create function tasker_core_v1.dispatch_steps(
  p_process bigint,
  p_queues text[],
  p_limit integer,
  p_in_flight integer,
  p_start_timeout interval,
  p_set_aside_damaged boolean default false
) returns json
language plpgsql as $$
declare
  v_room integer;
  v_claimed json := '{"versions":{},"claims":[]}';
  v_count integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('tasker_core_v1.dispatch_steps', 0));
  v_room := p_in_flight - (
    select count(*)
    from (select from tasker_claimed_steps where dispatch is not null limit p_in_flight) as dispatched);

  if v_room > 0 then
    v_claimed := tasker_core_v1.claim_steps(
      p_process, p_queues, least(p_limit, v_room), 0, p_set_aside_damaged, p_start_timeout);
  end if;
  v_count := json_array_length(v_claimed->'claims') + coalesce(json_array_length(v_claimed->'set_aside'), 0);

  update tasker_processes
  set idle_dispatcher = (v_count = 0)
  where id = p_process
    and idle_dispatcher <> (v_count = 0)
    and v_count in (0, least(p_limit, v_room));

  return json_build_object(
    'full', v_room <= 0,
    'versions', v_claimed->'versions',
    'claims', v_claimed->'claims',
    'set_aside', coalesce(v_claimed->'set_aside', '[]'),
    'priorities', (
      select coalesce(json_object_agg(claim->>'token', t.priority + d.priority), '{}')
      from json_array_elements(v_claimed->'claims') as claim
      join tasker_tasks t on t.id = any(array[(claim->>'task_id')::bigint])
      cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, (claim->>'position')::integer) as d));
end
$$;
