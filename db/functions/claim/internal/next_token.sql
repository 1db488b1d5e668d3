-- Draws the token of a new claim: the next number of the sequence, followed by 20 random bits. Called by insert_claims.
--
-- The number keeps tokens in the order of the claims, which the index and the marks of claim_scan_start depend on. The
-- random bits make tokens differ when the sequence has gone back, as after a fail-over to a standby that lacks the last
-- commits: a worker that holds a token of the lost state must never see it again. The number has 43 bits, enough for 27
-- years at 10,000 claims a second.

create function tasker_core_v1.next_token() returns bigint
language sql volatile as $$
  select (nextval('tasker_claimed_steps_token_seq') << 20) | trunc(random() * 1048576)::bigint;
$$;
