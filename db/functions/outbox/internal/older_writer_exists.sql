-- Whether a transaction of this database that has a lower id than this one may commit still. Called by fetch_events.
-- A snapshot knows the transactions of all databases of the server; one that writes for long in another database must not
-- hold up anything here, so if there is one, their locks tell where they are: each transaction holds its own id locked, a
-- prepared one without a backend. Ids are compared as the server does, within half of their circle of 2^32.

create function tasker_core_v1.older_writer_exists(p_xid bigint) returns boolean
language sql volatile as $$
  select pg_snapshot_xmin(pg_current_snapshot())::text::bigint < p_xid
    and exists (
      select
      from pg_locks l
      left join pg_stat_activity a on a.pid = l.pid
      left join pg_prepared_xacts p on p.transaction = l.transactionid
      where l.locktype = 'transactionid'
        and l.mode = 'ExclusiveLock'
        and l.granted
        and coalesce(a.datname, p.database, current_database()) = current_database()
        and (p_xid - l.transactionid::text::bigint) & 4294967295 between 1 and 2147483647);
$$;
