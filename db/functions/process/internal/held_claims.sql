-- Which of the claims that a process names does it hold? p_held: [{token, task_id, position, attempt}]; all of it has to agree,
-- and the claim has to be this registration's. Answers tokens, in their order.
--
-- A token alone does not prove anything: workers outlive the database's state, which a fail-over or a restore takes back to
-- an earlier one, and then the same numbers come again for other steps. The number of a registration is random
-- (register_process), so that no other state can have given it.
-- Called by heartbeat, release_steps and ancestor_results; finish_steps asks the same of the claims that it deletes.
-- Index: the claims' primary key.

create function tasker_core_v1.held_claims(p_process bigint, p_held jsonb) returns bigint[]
language plpgsql stable as $$
begin
  return array(
    select c.token
    from jsonb_to_recordset(p_held) as held (token bigint, task_id bigint, position integer, attempt integer)
    join tasker_claimed_steps c on c.token = any(array[held.token])
    where c.process_id = p_process
      and c.task_id = held.task_id
      and c.position = held.position
      and c.attempt = held.attempt
    order by c.token);
end
$$;
