-- Returns, in order, the tokens of those claims in p_held that the process holds. p_held: [{token, task_id, position,
-- attempt}]; all of these columns must agree, and the claim must belong to this registration.
--
-- A token alone proves nothing: a fail-over or a restore may return the database to an earlier state, in which the same
-- numbers are drawn again for other steps. The id of a registration is random (register_process), so no other state can
-- have drawn it.
-- Called by heartbeat, register_process, release_steps, task_input and ancestor_results. finish_steps checks the same
-- columns of the claims that it deletes.
-- Index: the primary key, once per token. As a join, the planner compares each token with every claim while it thinks
-- that there are few.

create function tasker_core_v1.held_claims(p_process bigint, p_held jsonb) returns bigint[]
language plpgsql stable as $$
begin
  return array(
    select c.token
    from jsonb_to_recordset(p_held) as held (token bigint, task_id bigint, position integer, attempt integer)
    cross join lateral (
      select token, process_id, task_id, position, attempt from tasker_claimed_steps where token = held.token limit 1
    ) as c
    where c.process_id = p_process
      and c.task_id = held.task_id
      and c.position = held.position
      and c.attempt = held.attempt
    order by c.token);
end
$$;
